"""Seeded noise, latent geometry, schedules, solvers and guidance for flow models. Needs torch only."""
