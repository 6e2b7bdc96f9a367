"""Prompt text: the official cleaning, language, weights, default negative prompts. Needs ftfy only."""
