"""Pure torch: runs on every device torch knows, and is what every faster backend is tested against."""
