"""How the model is changed: GRPO on Gemma 3 with trl, peft and, where a GPU is there, Unsloth."""
