"""Triton kernels of one decoding step: what lies between its matrix products, and some of these.

While one token a row is computed, every tensor but the weights is small, so time goes by launches
and not by bytes: each kernel here takes the place of five to fifteen of torch's.  Products are
left to cuBLAS but where `products.py` says otherwise.  All arithmetic is in float32, with a
rounding to the model's number type in the places where transformers' model classes round, so that
greedy decoding follows them.  What one family has and another has not is a `constexpr`: each model
gets kernels of its own, and none pays for another's.

They run on a CPU too, slowly, with TRITON_INTERPRET=1.
"""
