# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of generated motion.

    renderer = build_renderer("sketch", face_basis=read_basis("face_basis.npz"))
    frames = renderer(sample)                      # uint8 (H, W, 3), one for each frame of the motion

``plots`` shows the curves of any motion. ``sketch`` draws a face and ``mesh`` a shaded head; they need to know what the
codes mean, or a mesh of the user's with shapes for each value of a code. ``codec`` is a user's photo-real decoder.
``none`` draws nothing.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.score_files import FaceBasis

AUTO, NOTHING = "auto", "none"
RENDERERS = (NOTHING, "plots", "sketch", "mesh", "codec")

#: Draws a sample, frame by frame: RGB, uint8 ``(H, W, 3)`` with even sides.
Renderer = Callable[["Generated"], Iterator[np.ndarray]]


def build_renderer(
    name: str,
    face_basis: "FaceBasis | None" = None,
    *,
    mesh: str | os.PathLike | None = None,
    codec: str | None = None,
) -> Renderer | None:
    """Return a renderer.

    Args:
        name: One of :data:`RENDERERS`, or ``auto``: ``sketch`` where the meaning of codes is known, else ``plots``.
        face_basis: What the codes mean; None: that is not known.
        mesh: File of a user's mesh (:func:`~espnet_av.avgen.render.head_mesh.read_mesh`); None: that of this package.
        codec: A user's decoder, ``module:callable``; see :mod:`espnet_av.avgen.render.codec`.

    Raises:
        UsageError: The name is unknown, or the renderer needs the basis.
        EnvironmentProblem: There is no decoder.
    """
    if name == AUTO:
        name = "plots" if face_basis is None else "sketch"
    if name not in RENDERERS:
        usage_error("unknown renderer", name, [AUTO, *RENDERERS])
    if name == NOTHING:
        return None
    if name == "plots":
        from espnet_av.avgen.render.plots import Plots

        return Plots(face_basis)
    if name == "codec":
        from espnet_av.avgen.render.codec import CodecFace

        return CodecFace(codec)
    if name == "mesh":
        from espnet_av.avgen.render.head_mesh import read_mesh
        from espnet_av.avgen.render.mesh import MeshFace

        return MeshFace(face_basis, None if mesh is None else read_mesh(mesh))
    if face_basis is None:
        usage_error("the sketch needs to know what face codes mean", fix="pass --face_basis FILE.npz, or draw plots")
    from espnet_av.avgen.render.sketch import Sketch

    return Sketch(face_basis)
