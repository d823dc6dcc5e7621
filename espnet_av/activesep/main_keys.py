# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The keys of experiment files of the published program and their defaults; nothing is computed here."""

from typing import Any

#: Keys of an experiment file.
EXPERIMENT: dict[str, Any] = {
    "BASE_TASK_CONFIG_PATH": "configs/tasks/pointnav.yaml",
    "CMD_TRAILING_OPTS": [],
    "TRAINER_NAME": "ppo",
    "ENV_NAME": "AAViDSSEnv",
    "SIMULATOR_GPU_ID": 0,
    "TORCH_GPU_ID": 0,
    "PARALLEL_GPU_IDS": [],
    "MODEL_DIR": "",
    "VIDEO_OPTION": [],
    "VISUALIZATION_OPTION": [],
    "TENSORBOARD_DIR": "",
    "VIDEO_DIR": "",
    "AUDIO_DIR": "",
    "EVAL_EPISODE_COUNT": 100,
    "EVAL_CKPT_PATH_DIR": "",
    "NUM_PROCESSES": 16,
    "SENSORS": ["RGB_SENSOR", "DEPTH_SENSOR"],
    "EXTRA_RGB": False,
    "EXTRA_DEPTH": False,
    "CHECKPOINT_FOLDER": "",
    "NUM_UPDATES": 10000,
    "NUM_EPOCHS": 1000,
    "LOG_INTERVAL": 10,
    "LOG_FILE": "",
    "CHECKPOINT_INTERVAL": 50,
    "NUM_SOUNDS_IN_MIX": 2,
    "COMPUTE_EVAL_METRICS": False,
    "EVAL_METRICS_TO_COMPUTE": ["si_sdr"],
    "EPS_SCENES": [],
    "EPS_SCENES_N_IDS": [],
    "JOB_ID": "",
    "LOG_VIDEO_AFTER": -1,
    "USE_VECENV": True,
    "USE_SYNC_VECENV": False,
    "SEED": 0,
    "DEBUG": False,
    # Not of the published program: observations to the bit as it makes them; labels of the classes (JSON); keywords of
    # the agent or the separators; how often a state to go on from is written.
    "REFERENCE_COMPAT": False,
    "CLASS_TABLE": "",
    "MODEL": {},
    "SAVE_INTERVAL": 10,
    "EVAL": {"SPLIT": "val", "USE_CKPT_CONFIG": True},
    "Pretrain": {"Passive": {"lr": 5e-4, "eps": 1e-5, "max_grad_norm": 0.8, "num_epochs": 1000}},
    "RL": {
        "SUCCESS_REWARD": 10.0,
        "SLACK_REWARD": -0.01,
        "WITH_DISTANCE_REWARD": True,
        "DISTANCE_REWARD_SCALE": 1.0,
        "PPO": {
            "clip_param": 0.2,
            "ppo_epoch": 4,
            "num_mini_batch": 16,
            "value_loss_coef": 0.5,
            "entropy_coef": 0.01,
            "lr_pol": 1e-4,
            "lr_sep": 5e-3,
            "eps": 1e-5,
            "max_grad_norm": 0.5,
            "num_steps": 5,
            "hidden_size": 512,
            "use_gae": True,
            "use_linear_lr_decay": False,
            "use_linear_clip_decay": False,
            "gamma": 0.99,
            "tau": 0.95,
            "reward_window_size": 50,
            "deterministic_eval": False,
            "use_ddppo": False,
            "ddppo_distrib_backend": "NCCL",
            "short_rollout_threshold": 0.25,
            "sync_frac": 0.6,
            "master_port": 8738,
            "master_addr": "127.0.0.1",
            "train_passive_separators": False,
            "pretrained_passive_separators_ckpt": "",
            "TRANSFORMER_MEMORY": {
                "num_past_steps_refinement": -1,
                "memory_size": 19,
                "input_size": 1024,
                "hidden_size": 1024,
                "num_layers": 2,
                "nhead": 8,
                "dropout": 0.1,
                "activation": "relu",
                "POSE_ENCODING": {"num_pose_attrs": 4},
            },
        },
    },
}

#: Keys of a task file, which ``TASK_CONFIG.*`` reaches from the command line.
TASK: dict[str, Any] = {
    "SEED": 100,
    "ENVIRONMENT": {
        "MAX_EPISODE_STEPS": 1000,
        "MAX_EPISODE_SECONDS": 10000000,
        "ITERATOR_OPTIONS": {
            "CYCLE": True,
            "SHUFFLE": True,
            "GROUP_BY_SCENE": True,
            "NUM_EPISODE_SAMPLE": -1,
            "MAX_SCENE_REPEAT_EPISODES": -1,
            "MAX_SCENE_REPEAT_STEPS": 10000,
            "STEP_REPETITION_RANGE": 0.2,
        },
    },
    "SIMULATOR": {
        "TYPE": "HabitatSimAudioEnabled",
        "ACTION_SPACE_CONFIG": "audio-separation",
        "SCENE_DATASET": "mp3d",
        "SCENE": "",
        "SEED": 100,
        "GRID_SIZE": 1.0,
        "FORWARD_STEP_SIZE": 0.25,
        "TURN_ANGLE": 10,
        "MAX_EPISODE_STEPS": 1000,
        "DEFAULT_AGENT_ID": 0,
        "AGENTS": ["AGENT_0"],
        "AGENT_0": {"HEIGHT": 1.5, "RADIUS": 0.1, "SENSORS": ["RGB_SENSOR"]},
        "RGB_SENSOR": {"WIDTH": 640, "HEIGHT": 480, "HFOV": 90, "POSITION": [0, 1.25, 0]},
        "DEPTH_SENSOR": {
            "WIDTH": 640,
            "HEIGHT": 480,
            "HFOV": 90,
            "POSITION": [0, 1.25, 0],
            "MIN_DEPTH": 0.0,
            "MAX_DEPTH": 10.0,
            "NORMALIZE_DEPTH": True,
        },
        "HABITAT_SIM_V0": {"GPU_DEVICE_ID": 0, "GPU_GPU": False, "ALLOW_SLIDING": True, "ENABLE_PHYSICS": False},
        "USE_RENDERED_OBSERVATIONS": True,
        "RENDERED_OBSERVATIONS": "data/scene_observations",
        "AUDIO": {
            "RIR_DIR": "data/binaural_rirs/mp3d",
            "META_DIR": "data/metadata/mp3d",
            "GRAPH_FILE": "graph.pkl",
            "POINTS_FILE": "points.txt",
            "RIR_SAMPLING_RATE": 16000,
            "GT_MONO_MAG_NORM": 0.0,
            "NORM_TYPE": "l2",
            "MONO_DIR": "data/audio_data/libriSpeech100Classes_MITMusic_ESC50/1s_chunks/train_preprocessed",
            "PASSIVE_DATASET_VERSION": "v1",
            "SOURCE_AGENT_LOCATION_DATAPOINTS_DIR": "data/passive_dataset/",
            "PASSIVE_TRAIN_AUDIO_DIR": "",
            "PASSIVE_NONOVERLAPPING_VAL_AUDIO_DIR": "",
            "NUM_WORKER": 4,
            "BATCH_SIZE": 128,
            "NUM_PASSIVE_DATAPOINTS_PER_SCENE": 30000,
            "NUM_PASSIVE_DATAPOINTS_PER_SCENE_EVAL": 1000,
        },
    },
    "TASK": {
        "TYPE": "AAViDSS",
        "SENSORS": [],
        "MEASUREMENTS": [],
        "GOAL_SENSOR_UUID": "",
        "POSSIBLE_ACTIONS": ["MOVE_FORWARD", "TURN_LEFT", "TURN_RIGHT"],
        "SUCCESS_DISTANCE": 1.0,
        "ACTIONS": {},
    },
    "DATASET": {
        "TYPE": "AAViDSS",
        "VERSION": "v1",
        "SPLIT": "train",
        "SCENES_DIR": "data/scene_datasets/mp3d",
        "DATA_PATH": "data/active_datasets/{version}/{split}/{split}.json.gz",
        "CONTENT_SCENES": ["*"],
    },
}

#: Parts of a task file in which any key is allowed: sensors, measures and actions of the simulator have their own.
OPEN = (
    "TASK_CONFIG.TASK",
    "TASK_CONFIG.SIMULATOR.AGENT_0",
    "TASK_CONFIG.SIMULATOR.RGB_SENSOR",
    "TASK_CONFIG.SIMULATOR.DEPTH_SENSOR",
    "TASK_CONFIG.SIMULATOR.HABITAT_SIM_V0",
    "TASK_CONFIG.PYROBOT",
    "MODEL",
)

#: Keys that the published program reads nowhere, or only for a renderer that is not needed here: taken, with a warning.
DEAD = frozenset(
    """
    PARALLEL_GPU_IDS VISUALIZATION_OPTION AUDIO_DIR LOG_VIDEO_AFTER JOB_ID VIDEO_OPTION VIDEO_DIR CMD_TRAILING_OPTS
    SIMULATOR_GPU_ID RL.SUCCESS_REWARD RL.SLACK_REWARD RL.WITH_DISTANCE_REWARD RL.DISTANCE_REWARD_SCALE
    RL.PPO.train_passive_separators RL.PPO.short_rollout_threshold RL.PPO.sync_frac RL.PPO.master_port
    RL.PPO.master_addr Pretrain.Passive.num_epochs Pretrain.Passive.max_grad_norm
    TASK_CONFIG.SIMULATOR.AUDIO.POINTS_FILE TASK_CONFIG.DATASET.SCENES_DIR
    """.split()
)
