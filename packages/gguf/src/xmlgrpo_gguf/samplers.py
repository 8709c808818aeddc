"""llama.cpp's own samplers, chained as transformers chains its own: temperature first."""

from typing import Any

from xmlgrpo_gguf.requests import Sampling


def make_sampler(llama: Any, sampling: Sampling) -> Any | None:
    """A sampler chain, which the caller frees; None for greedy decoding, which needs none."""
    if sampling.temperature <= 0:
        return None
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    links = [llama.llama_sampler_init_temp(sampling.temperature)]
    if sampling.top_k > 0:
        links.append(llama.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        links.append(llama.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0:
        links.append(llama.llama_sampler_init_min_p(sampling.min_p, 1))
    links.append(llama.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF))
    for link in links:
        llama.llama_sampler_chain_add(chain, link)
    return chain
