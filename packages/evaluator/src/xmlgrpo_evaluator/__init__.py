"""How we know: one lm-eval task for HF and GGUF models, paired comparison, report."""
