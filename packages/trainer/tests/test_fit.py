"""What surrounds trl's loop."""

import gc
from contextlib import suppress

from xmlgrpo_trainer.fit import objects_set_aside


def test_old_objects_are_looked_at_by_no_collection_until_the_end() -> None:
    looked_at = []

    def note(phase: str, _: object) -> None:
        if phase == "start":
            looked_at.append(sum(len(gc.get_objects(age)) for age in range(3)))

    gc.collect()
    before = len(gc.get_objects())
    gc.callbacks.append(note)
    try:
        with suppress(KeyboardInterrupt), objects_set_aside():
            looked_at.clear()
            gc.collect()
            raise KeyboardInterrupt
    finally:
        gc.callbacks.remove(note)
    assert before > 10_000
    assert len(looked_at) == 1
    assert looked_at[0] < before / 10
    assert gc.get_freeze_count() == 0
    assert len(gc.get_objects()) > before / 2, "what comes after may be collected again"
