"""The training pass without padding, each prompt once for all its completions.

trl computes every completion with a prompt of its own, padded to the longest of both: on GSM8K's
lengths 60 % of the tokens are padding or the same prompt again.  Here all tokens of a micro-batch
lie one after another in one row: each distinct prompt once, then what was written after it (Prefix
Grouper, arXiv 2506.05433, which proves the gradients equal).  `layout` says which token lies where,
`attention` lets a completion see its prompt and itself, `step` puts both into trl's loss.
`merged_pass`, where it is asked for, takes the place of the model's own forward pass.
"""
