"""What the optimizer, its schedule and the loop of training are told, in every dialect (see `config/names.py`)."""

from __future__ import annotations

from unstuck.config.name import Name, in_section, name

KINDS = "name type kind _target_ class class_name algorithm"

# Columns: canonical, unit, unstuck, huggingface, nanogpt, plain. A spelling with a dot matches the end of a dotted key.
TRAINING: tuple[Name, ...] = (
    name(
        "learning_rate",
        "peak learning rate of the (AdamW) base, before group factors",
        "optimizer.learning_rate",
        "learning_rate",
        "learning_rate",
        "lr learning_rate base_lr max_lr peak_lr init_lr initial_lr initial_learning_rate base_learning_rate "
        "peak_learning_rate max_learning_rate lr_max lr_peak lr.base optimizer.lr optimizer.learning_rate",
    ),
    name(
        "muon_learning_rate",
        "peak learning rate of Muon",
        "optimizer.muon_learning_rate",
        "",
        "",
        "muon_lr muon_learning_rate matrix_lr",
    ),
    name(
        "min_learning_rate",
        "learning rate at the end of the schedule, absolute",
        "",
        "lr_scheduler_kwargs.min_lr",
        "min_lr",
        "min_lr lr_min min_learning_rate eta_min end_lr lr_end final_lr end_learning_rate minimum_learning_rate "
        "final_learning_rate lr_final minimum_lr",
    ),
    name(
        "lr_floor",
        "learning rate at the end of the schedule, as a share of the peak",
        "schedule.floor",
        "lr_scheduler_kwargs.min_lr_rate",
        "",
        "min_lr_ratio min_lr_rate min_lr_frac min_lr_factor lr_floor final_lr_ratio final_lr_frac "
        "end_lr_ratio lr_min_ratio eta_min_ratio learning_rate_final_fraction cosine_learning_rate_final_fraction "
        "min_lr_multiplier",
    ),
    name(
        "schedule",
        "constant | linear | cosine | wsd | polynomial | inverse_sqrt | plateau | restarts",
        "schedule.kind",
        "lr_scheduler_type",
        "decay_lr",
        "schedule lr_schedule scheduler lr_scheduler lr_scheduler_type scheduler_type lr_decay_style sched lr_sched "
        "lr_policy decay_lr learning_rate_schedule learning_rate_scheduler lr_schedule_type schedule_type "
        "lr_scheduler_name scheduler_cls scheduler_class lr_scheduler_cls lr_scheduler_class decay_type "
        "lr_decay_type decay_method lr_decay_method decay_schedule "
        + in_section(
            "scheduler schedule sched lr_scheduler lr_schedule lr_sched learning_rate_schedule",
            f"{KINDS} class_path _name",
        )
        + " "
        + in_section("learning_rate lr", "type kind schedule scheduler name"),
    ),
    name(
        "schedule_cycles",
        "number of planned cosine cycles",
        "schedule.cycles",
        "lr_scheduler_kwargs.num_cycles",
        "",
        "cycles num_cycles n_cycles lr_cycles",
    ),
    name(
        "warmup_updates",
        "optimizer updates (as the user believes: unconverted)",
        "schedule.warmup_updates",
        "warmup_steps",
        "warmup_iters",
        "warmup_steps warmup num_warmup_steps warmup_updates warmup_iters n_warmup_steps lr_warmup_steps "
        "warmup_iterations lr_warmup_iters n_warmup lr_warmup warm_up_steps linear_warmup_steps warmup_num_steps "
        "warmup.steps warmup.iters warmup.updates",
    ),
    name(
        "warmup_share",
        "share of the horizon",
        "schedule.warmup_share",
        "warmup_ratio",
        "",
        "warmup_ratio warmup_share warmup_proportion warmup_frac warmup_fraction warmup_pct pct_start "
        "warmup_steps_fraction lr_warmup_ratio lr_warmup_fraction",
    ),
    name(
        "horizon_updates",
        "length of the schedule in optimizer updates (as the user believes)",
        "schedule.horizon_updates",
        "",
        "lr_decay_iters",
        "lr_decay_steps decay_steps lr_decay_iters t_max horizon horizon_updates schedule_steps "
        "scheduler_steps lr_decay_iterations scheduler.t_max scheduler.total_steps schedule_horizon "
        + in_section("lr_scheduler schedule sched", "total_steps")
        + " "
        + in_section("scheduler lr_scheduler schedule sched decay_params", "max_step max_steps max_iters"),
    ),
    name(
        "updates",
        "planned optimizer updates",
        "training.updates",
        "max_steps",
        "max_iters",
        "steps max_steps total_steps num_steps n_steps train_steps training_steps num_train_steps "
        "num_training_steps total_train_steps max_train_steps max_iters num_iters n_iters iterations "
        "num_iterations train_iters total_iters max_iterations updates max_updates num_updates total_updates "
        "max_update max_iter total_iterations iters max_step max_train_step total_step",
    ),
    name(
        "epochs",
        "planned epochs",
        "training.epochs",
        "num_train_epochs",
        "",
        "epochs n_epochs num_epochs max_epochs epoch_num max_num_epochs num_train_epochs nb_epochs nepochs "
        "total_epochs train_epochs max_epoch "
        "number_of_epochs num_epoch n_epoch nepoch total_epoch",
    ),
    name(
        "batch_size",
        "samples per device and micro-batch",
        "training.batch_size",
        "per_device_train_batch_size",
        "batch_size",
        "batch_size train_batch_size micro_batch_size per_device_train_batch_size per_device_batch_size "
        "device_batch_size mini_batch_size bs bsz batch train_micro_batch_size_per_gpu micro_batch microbatch_size "
        "minibatch_size train_bs train_batch samples_per_gpu samples_per_device "
        "batch_size_per_card batch_size_per_gpu batch_size_per_device per_gpu_batch_size per_gpu_train_batch_size "
        "local_batch_size ims_per_batch",
    ),
    name(
        "accumulation",
        "micro-batches per optimizer update",
        "training.accumulation",
        "gradient_accumulation_steps",
        "gradient_accumulation_steps",
        "grad_accum accumulation_steps gradient_accumulation_steps grad_accum_steps gradient_accumulation "
        "accumulate_grad_batches accum_steps grad_accumulation_steps accumulation accum accumulate "
        "accumulate_gradients update_freq accum_iter grad_acc_steps accumulate_steps grad_acc num_accumulation_steps "
        "accumulate_gradient_steps accumulate_gradients_steps grad_accumulation accum_grad grad_accumulation_factor "
        "gradient_accumulation_factor grad_accumulate_steps "
        "gradient_accumulate_steps grad_accum_every accum_count",
    ),
    name(
        "world_size",
        "number of devices",
        "",
        "world_size",
        "",
        "world_size num_gpus n_gpus n_gpu ngpus gpus num_devices devices num_processes ddp_world_size dp_size "
        "nproc_per_node",
    ),
    name(
        "clip_norm",
        "gradient norm limit; 0 or None: no clipping",
        "training.clip_norm",
        "max_grad_norm",
        "grad_clip",
        "grad_clip clip_norm max_grad_norm clip gradient_clip_val gradient_clip clip_grad clip_grad_norm "
        "grad_clip_norm gradient_clipping max_norm clip_value grad_norm_clip clipnorm global_clipnorm "
        "clip_grad.max_norm gradient_clipping_norm global_clip_norm gradient_clipping_threshold clip_by_global_norm "
        "grad_clip_threshold grad_norm_clip_value grad_clip_thresh "
        "gradient_clip_norm clip_gradients clip_max_norm max_gradient_norm clip_gradient_norm clip_gradient "
        "grad_clip.max_norm grad_clip.norm clip.norm clip.max_norm grad_norm_max",
    ),
    name(
        "weight_decay",
        "decoupled weight decay",
        "optimizer.weight_decay",
        "weight_decay",
        "weight_decay",
        "weight_decay wd optimizer.weight_decay adam_weight_decay l2",
    ),
    name(
        "optimizer",
        "adamw | adam | sgd | muon | lamb | lion | adafactor | ..., lower case",
        "optimizer.kind",
        "optim",
        "",
        "optimizer optim optimizer_cls optimizer_class optimizer_name optimizer_type opt optim_name optim_type "
        "opt_name " + in_section("optimizer optim opt", f"{KINDS} class_path _name"),
    ),
    name(
        "beta1",
        "AdamW beta1",
        "optimizer.beta1",
        "adam_beta1",
        "beta1",
        "beta1 adam_beta1 beta_1 adam_b1",
    ),
    name(
        "beta2",
        "AdamW beta2",
        "optimizer.beta2",
        "adam_beta2",
        "beta2",
        "beta2 adam_beta2 beta_2 adam_b2",
    ),
    name(
        "group_lr_factors",
        "dict of group name -> factor of the base learning rate",
        "",
        "",
        "",
        "lr_mult lr_mults lr_multipliers lr_multiplier lr_factors lr_factor lr_scales lr_scale "
        "group_lr_factors group_lr_scales group_lr_multipliers param_group_lr_factors",
    ),
    name(
        "label_smoothing",
        "0..1",
        "",
        "label_smoothing_factor",
        "",
        "label_smoothing label_smoothing_factor smoothing label_smooth smooth_labels label_smoothing_eps "
        "label_smoothing_epsilon smoothing_factor ls_factor ls_eps ls lsm_weight lsm_prob label_smoothing_weight "
        "label_smoothing_rate label_smoothing_prob ls_weight smoothing_weight",
    ),
    name(
        "precision",
        "float32 | bfloat16 | float16",
        "training.precision",
        "",
        "dtype",
        "dtype precision mixed_precision torch_dtype amp_dtype",
    ),
    name(
        "seed",
        "int",
        "seed",
        "seed",
        "seed",
        "seed random_seed",
    ),
    name(
        "patience",
        "plateau scheduler's patience, in evaluations",
        "schedule.patience",
        "lr_scheduler_kwargs.patience",
        "",
        "lr_patience scheduler_patience plateau_patience scheduler.patience lr_scheduler.patience "
        "reduce_lr_patience reduce_lr.patience lr_scheduler_patience lr_plateau_patience",
    ),
    name(
        "plateau_factor",
        "what the plateau scheduler multiplies the learning rate by",
        "schedule.factor",
        "lr_scheduler_kwargs.factor",
        "",
        "plateau_factor scheduler_factor lr_scheduler_factor reduce_lr_factor lr_plateau_factor scheduler.factor "
        "lr_scheduler.factor reduce_lr.factor",
    ),
    name(
        "plateau_threshold",
        "smallest improvement the plateau scheduler counts; a share of the best in PyTorch, absolute in Keras and ours",
        "evaluation.min_improvement",
        "lr_scheduler_kwargs.threshold",
        "",
        "plateau_threshold scheduler_threshold lr_scheduler_threshold scheduler.threshold lr_scheduler.threshold "
        "plateau_min_delta reduce_lr_min_delta reduce_lr.min_delta",
    ),
    name(
        "plateau_cooldown",
        "evaluations after a reduction that the plateau scheduler does not count",
        "",
        "lr_scheduler_kwargs.cooldown",
        "",
        "plateau_cooldown scheduler_cooldown lr_scheduler_cooldown scheduler.cooldown lr_scheduler.cooldown "
        "reduce_lr_cooldown reduce_lr.cooldown",
    ),
)
