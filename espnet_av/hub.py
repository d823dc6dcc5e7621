# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the public classes of all systems share: models from folders and from the hub, and back to them.

    recogniser = AVSR.from_pretrained("organisation/model", revision="v1.0")  # or hf://organisation/model@v1.0
    recogniser.save_pretrained("models/mine")
    recogniser.push_to_hub("me/mine", private=True)

The hub is that of huggingface_hub; ``HF_ENDPOINT`` names another one.
"""

import abc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from espnet_av.registry import resolve
from espnet_av.utils.errors import CheckpointError, usage_error
from espnet_av.utils.hub import fetch_repository, is_hub_address, is_hub_name, split_source, upload_folder

if TYPE_CHECKING:
    from torch import nn

#: Packs are made and checked by a room above the models; they are named here, not imported.
READ_META, VERIFY = "espnet_av.report.packing:read_meta", "espnet_av.report.packing:verify_pack"
SAVE, REQUIRE_SHARABLE = "espnet_av.report.saving:save_model", "espnet_av.report.saving:require_sharable"


@dataclass(frozen=True)
class Origin:
    """Where a model was loaded from.

    Attributes:
        folder: Holds its ``config.yaml``.
        checkpoint: The weights file that was read.
        parts: Folders of further models that belong to it, by the name of the folder they have in a pack.
        extras: Small files that belong to it, by the name they have there.
        facts: What ``meta.json`` says of its use beside.
    """

    folder: Path
    checkpoint: Path
    parts: Mapping[str, Path] = field(default_factory=dict)
    extras: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def locate_model(
    source: str | os.PathLike,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    token: str | None = None,
) -> Path:
    """Return the folder or file that a source means, downloaded where it is on the hub.

    Args:
        source: A path; or, where nothing lies there, ``organisation/name`` or ``organisation/name@revision`` of the
            hub; with ``hf://`` before it, always of the hub.
        revision: Branch, tag or commit of the hub.
        cache_dir: Where files of the hub are kept; None: where its own programs keep them.
        token: Access token of the hub; None: that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The path, which need not exist where it is no name of the hub. A packed model was compared with its digests:
        the weights alone of one that lies here, whose texts may be edited, and all files of one of the hub.

    Raises:
        MissingDataError: The hub has no such model.
        EnvironmentProblem: The hub cannot be reached.
        UsageError: A revision of a local path, two revisions, or no name of the hub behind ``hf://``.
        DataError: A file is not what was packed, or ``meta.json`` is damaged.
    """
    path = Path(source).expanduser()
    address = is_hub_address(source)
    if not address and (path.exists() or split_source(source) is None):
        if revision is not None:
            usage_error("a revision is of a model on the hub, and this is a path", got=str(source), fix="leave it out")
        _verify(path if path.is_dir() else path.parent, weights_only=True)
        return path
    try:
        folder = fetch_repository(str(source), cache_dir, revision=revision, token=token)
    except Exception as error:
        if not address:
            error.args = (f"there is no path {source}, and {error}",)
        raise
    _verify(folder)
    return folder


def _verify(folder: Path, *, weights_only: bool = False) -> None:
    """Compare a pack with its digests; a folder of this machine may hold a ``meta.json`` that is of no pack."""
    if not (folder / "meta.json").is_file():
        return
    if not weights_only or "files" in resolve(READ_META)(folder):
        resolve(VERIFY)(folder, weights_only=weights_only)


class Pretrained(abc.ABC):
    """Saving and publishing, for classes whose ``from_pretrained`` sets :attr:`origin`.

    Attributes:
        origin: Where the model was loaded from; None where it was built.
    """

    system_name: ClassVar[str]  # in espnet_av.report.systems
    weight_prefix: ClassVar[str] = ""  # of the network's tensors in checkpoints and packs
    origin: Origin | None = None

    @abc.abstractmethod
    def trained_network(self) -> "nn.Module":
        """Return the network whose weights are saved."""

    def save_pretrained(
        self, folder: str | os.PathLike, *, licence: str | None = None, name: str | None = None
    ) -> Path:
        """Write the model as a pack: weights, configuration, card, digests; needs nothing of this machine to load.

        The weights are those of the network as it is now. Where they were changed since it was loaded, results that
        were measured before are left out.

        Args:
            folder: Appears when it is complete; replaces an earlier pack, and nothing else.
            licence: Of the weights. None: that of the pack it was loaded from; ``Apache-2.0`` for a training of ours on
                data whose licences are all known; else ``not stated``.
            name: Of the model; None: as it was.

        Returns:
            The folder.

        Raises:
            UsageError: The model was not loaded by ``from_pretrained``, the folder holds something else, or the
                licence has no name.
            LicenceConflict: The licences of the training data, or that of the weights, forbid this licence.
            CheckpointError: The network was changed into another one.
        """
        origin = self._known_origin()
        state = {self.weight_prefix + key: value for key, value in self.trained_network().state_dict().items()}
        save = resolve(SAVE)
        return save(origin, self.system_name, state, self.weight_prefix, Path(folder), licence=licence, name=name)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        licence: str | None = None,
        name: str | None = None,
        commit_message: str = "Upload the model",
        token: str | None = None,
        allow_unknown_licences: bool = False,
    ) -> str:
        """Upload the model to the Hugging Face hub, as :meth:`save_pretrained` writes it.

        Args:
            repo_id: ``organisation/name``; made where there is none.
            revision: Branch, made where there is none; None: ``main``.
            private: Of a new repository: whether only its owners see it.
            licence: See :meth:`save_pretrained`.
            name: Of the model; None: the second half of ``repo_id``.
            commit_message: Title of the commit.
            token: Access token; None: that of ``hf auth login`` or ``HF_TOKEN``.
            allow_unknown_licences: Upload it though the licence of some of its training data is not known.

        Returns:
            The commit, which ``from_pretrained(repo_id, revision=...)`` takes.

        Raises:
            UsageError: As :meth:`save_pretrained`; the name has another form, or the licence is not known.
            LicenceConflict: The weights must not be passed on under this licence, or the licence of some of the data is
                not known. Nothing was uploaded.
            EnvironmentProblem: The hub cannot be reached or does not let this account write.
        """
        import tempfile

        if not is_hub_name(repo_id):
            usage_error("not a name of the hub", got=repo_id, allowed="organisation/name")
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.save_pretrained(
                Path(scratch) / "pack", licence=licence, name=name or repo_id.partition("/")[2]
            )
            resolve(REQUIRE_SHARABLE)(folder, allow_unknown_licences=allow_unknown_licences)
            return upload_folder(
                folder, repo_id, revision=revision, private=private, message=commit_message, token=token
            )

    def _known_origin(self) -> Origin:
        if self.origin is None:
            fix = "load it with from_pretrained, or pack its experiment (espnet-av pack)"
            usage_error(f"this {type(self).__name__} was built, not loaded: its configuration is not known", fix=fix)
        if not (self.origin.folder / "config.yaml").is_file():
            raise CheckpointError(
                f"{self.origin.checkpoint} has no config.yaml beside it; fix: convert it first (espnet-av convert)"
            )
        return self.origin
