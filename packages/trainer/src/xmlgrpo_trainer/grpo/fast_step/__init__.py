"""What makes trl's and peft's training step fast on one GPU, and changes no result but by rounding.

A step of a small model spends its time in launches and in passes over the logits, not in products.
`lora` computes an adapted projection in three products without passes in between; `padding` and
`sliding_window` let attention do without masks; `logprobs` turns hidden states into
log-probabilities without ever holding whole logits, and `float32_loss` has trl take them;
`speed_up` puts all into trl's trainer.
"""
