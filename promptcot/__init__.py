"""PromptCoT 2.0 without the training loop: records, maths, prompts, recipes and engines."""
