"""The engine's picture is what its script draws of what was measured."""

import json

from ci.remake.engine_picture import PICTURE, PROFILE, layer_pieces, picture, step_pieces


def test_the_picture_is_drawn_from_the_profile_that_is_here() -> None:
    profile = json.loads(PROFILE.read_text(encoding="utf-8"))
    assert PICTURE.read_text(encoding="utf-8") == picture(profile)
    assert len(layer_pieces(profile["decode"])) == 9
    assert sum(piece.size for piece in step_pieces(profile["step"])) == profile["step"]["step_ms"]
