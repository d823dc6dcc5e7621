# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stands in for the stage commands in tests of the drivers: makes the files they make, notes how it was called.

``stub_python.py MODULE ARGUMENT...``; STUB_CALLS names the file of notes; STUB_FAIL=MODULE[:WORD] makes a module fail
(when WORD is one of its arguments) by running STUB_HOW in a shell.
"""

import json
import os
import sys
from pathlib import Path

SETS = {
    "train": 20,
    "valid": 6,
    "test_seen": 6,
    "test_unseen": 6,
    "silent": 6,
    "test_seen_snr_0_interferer_1": 6,
    "test": 6,
}


def options(words):
    """Return {option: [values]} of a command line."""
    found, name = {}, ""
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            found.setdefault(name, []).extend([value] if value else [])
        else:
            found[name].append(word)
    return found


def write(path, text):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_set(folder, count, mouth=False):
    keys = [f"s{index // 4}-{index:02d}" for index in range(count)]
    names = ["wav.scp", "mouth.scp"] if mouth else ["wav.scp", "video.scp"]
    for name in names:
        write(folder / name, "".join(f"{key} /bin/sh\n" for key in keys))
    write(folder / "text", "".join(f"{key} bin blue\n" for key in keys))
    write(folder / "utt2spk", "".join(f"{key} {key[:2]}\n" for key in keys))
    speakers = dict.fromkeys(key[:2] for key in keys)
    write(folder / "spk2utt", "".join(f"{s} {' '.join(k for k in keys if k[:2] == s)}\n" for s in speakers))
    write(folder / "streams", f"wav.scp speech sound\n{names[1]} video video_npy\ntext text text\n")


def corpus(given):
    for name, count in SETS.items():
        write_set(Path(given["output_dir"][0]) / name, count)


def format_av(given):
    count = len(Path(given["data_dir"][0], "utt2spk").read_text().splitlines())
    write_set(Path(given["output_dir"][0]), count, mouth=True)


def filter_data(given):
    source = Path(given["data_dir"][0])
    write_set(Path(given["output_dir"][0]), len((source / "utt2spk").read_text().splitlines()), mouth=True)
    write(Path(given["output_dir"][0]) / "filter_report.json", json.dumps(given))


def data_doctor(given):
    write(Path(given["output_dir"][0]) / "doctor.json", "{}")


def tokens(given):
    write(Path(given["output_dir"][0]) / "tokens.txt", "<blank>\n<unk>\na\n<eos>\n")


def shapes(given):
    for name in ("speech", "video", "text"):
        write(Path(given["output_dir"][0]) / f"{name}_shape", "s0-00 10\n")


def avsr_train(given):
    folder = Path(given["output_dir"][0])
    write(folder / "config.yaml", f"seed: {given['seed'][0]}\n")
    write(folder / "checkpoint.pth", "weights " + " ".join(given.get("set", [])))
    write(folder / "history.jsonl", "{}\n")


def avsr_infer(given):
    for modality in given["modalities"]:
        for data in given["data_dirs"]:
            write(Path(given["output_dir"][0]) / modality / Path(data).name / "text", "s0-00 bin blue\n")


def avsr_score(given):
    folder = Path(given["exp_dir"][0])
    found = sorted(str(path.parent.relative_to(folder / "decode")) for path in folder.glob("decode/*/*/text"))
    write(folder / "results.json", json.dumps(found))
    write(folder / "RESULTS.md", "# Results\n\n| set | WER |\n|---|---|\n| test_seen | 12.3 |\n\nmore\n")


def report(given):
    write(given["output"][0], "<html></html>")


def pack(given):
    write(Path(given["output_dir"][0]) / "model.safetensors", "")


COMMANDS = {
    "mini_av": corpus,
    "grid": corpus,
    **{function.__name__: function for function in (format_av, data_doctor, filter_data, tokens, shapes)},
    **{function.__name__: function for function in (avsr_train, avsr_infer, avsr_score, report, pack)},
}


def main(words):
    """Stand in for one command."""
    if words[0] == "torch.distributed.run":
        words = words[words.index("-m") + 1 :]
    name = words[0].rpartition(".")[2]
    with open(os.environ["STUB_CALLS"], "a", encoding="utf-8") as stream:
        stream.write(json.dumps([name, *sys.argv[2:]]) + "\n")
    sys.stderr.write("12:00:00 INFO espnet_av.utils.progress: " + name + ": 1/2 clips in 00:00:01 (1.0/s)\n")
    module, _, word = os.environ.get("STUB_FAIL", "").partition(":")
    if module == name and (not word or word in words):
        sys.stderr.flush()
        os.execvp("bash", ["bash", "-c", os.environ["STUB_HOW"]])
    COMMANDS[name](options(words[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
