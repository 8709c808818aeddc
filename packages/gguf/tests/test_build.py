"""llama.cpp as `make gguf-setup` builds it."""

import pytest


@pytest.mark.gguf
def test_it_multiplies_by_no_amx():
    """Where a processor has it, the first token of 8-bit weights ended in a crash."""
    import llama_cpp

    can = llama_cpp.llama_print_system_info().decode()
    assert can.startswith("CPU : ")
    assert "AMX_INT8 = 1" not in can
