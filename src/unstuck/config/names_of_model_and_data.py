"""What the model, its start, the data and the evaluations are told, in every dialect (see `config/names.py`)."""

from __future__ import annotations

from unstuck.config.name import Name, name

# Columns: canonical, unit, unstuck, huggingface, nanogpt, plain. A spelling with a dot matches the end of a dotted key.
MODEL_AND_DATA: tuple[Name, ...] = (
    name(
        "context",
        "tokens per sample",
        "data.context",
        "max_seq_length",
        "block_size",
        "block_size context context_length seq_len seq_length sequence_len sequence_length max_seq_len "
        "max_seq_length max_length ctx_len n_ctx window context_window tokens_per_sample",
    ),
    name(
        "dropout",
        "0..1",
        "model.dropout",
        "",
        "dropout",
        "dropout dropout_rate drop_rate p_dropout hidden_dropout resid_pdrop hidden_dropout_prob dropout_p "
        "dropout_prob drop_prob pdrop p_drop dropout.p dropout.rate dropout.prob drop",
    ),
    name(
        "vocabulary",
        "number of token ids V",
        "",
        "model.vocab_size vocab_size",
        "vocab_size",
        "vocab_size vocabulary n_vocab vocabulary_size padded_vocab_size vocab",
    ),
    name(
        "parameters",
        "trainable parameters",
        "",
        "model.trainable model.parameters",
        "",
        "trainable_parameters trainable_params n_trainable trainable parameters n_params num_parameters "
        "num_params n_parameters total_params",
    ),
    name(
        "layers",
        "number of blocks",
        "model.layers",
        "num_hidden_layers",
        "n_layer",
        "n_layer layers n_layers num_layers num_hidden_layers depth",
    ),
    name(
        "heads",
        "attention heads",
        "model.heads",
        "num_attention_heads",
        "n_head",
        "n_head heads n_heads num_heads num_attention_heads",
    ),
    name(
        "width",
        "residual width",
        "model.width",
        "hidden_size",
        "n_embd",
        "n_embd width d_model hidden_size embed_dim dim model_dim hidden_dim",
    ),
    name(
        "start",
        "fresh | pretrained | checkpoint",
        "start_from",
        "init_from resume_from_checkpoint model_name_or_path",
        "init_from",
        "init_from start resume_from resume_from_checkpoint resume load_checkpoint model_name_or_path "
        "pretrained_model_name_or_path base_model pretrained from_pretrained",
    ),
    name(
        "start_loss",
        "validation loss of the checkpoint the run starts from, nats per token",
        "",
        "start_loss",
        "",
        "start_loss init_loss pretrained_loss checkpoint_loss",
    ),
    name(
        "lora_rank",
        "rank of LoRA adapters; unset: not LoRA",
        "",
        "lora.r peft_config.r lora_r",
        "",
        "lora_r lora_rank lora.r lora.rank peft.r lora_config.r peft_config.r",
    ),
    name(
        "task",
        "causal-lm | masked-lm | classification | regression | seq2seq",
        "",
        "model.type task_type lora.task_type",
        "",
        "task task_type objective",
    ),
    name(
        "train_samples",
        "training samples in one epoch",
        "",
        "train_samples",
        "",
        "train_samples n_train num_train num_train_samples train_size num_train_examples train_examples "
        "n_train_samples train_rows num_train_rows n_train_rows training_samples num_training_samples "
        "n_training_samples "
        "training_examples num_training_examples training_rows training_size train_set_size training_set_size "
        "train_data_size training_data_size num_training_data n_train_data num_train_data ntrain n_training "
        "train.samples train.num_samples train.rows training.samples",
    ),
    name(
        "train_tokens",
        "training tokens in one epoch",
        "",
        "train_tokens",
        "",
        "train_tokens n_train_tokens num_train_tokens",
    ),
    name(
        "validation_samples",
        "samples per evaluation",
        "",
        "eval_samples",
        "",
        "validation_samples eval_samples val_samples valid_samples n_val n_valid n_eval num_val num_valid num_eval "
        "num_validation n_validation val_size valid_size validation_size eval_size num_val_samples num_valid_samples "
        "num_eval_samples num_validation_samples n_val_samples n_valid_samples val_examples valid_examples "
        "eval_examples validation_examples num_eval_examples num_val_examples num_validation_examples val_rows "
        "valid_rows validation_rows eval_rows n_valid_rows num_valid_rows num_val_rows val_set_size "
        "val_data_size valid_data_size validation_data_size eval_data_size num_val_data nval nvalid "
        "validation_set_size val.samples val.num_samples valid.samples validation.samples eval.samples "
        "eval.num_samples",
    ),
    name(
        "validation_tokens",
        "tokens per evaluation",
        "",
        "",
        "",
        "validation_tokens eval_tokens val_tokens",
    ),
    name(
        "evaluation_every",
        "optimizer updates between evaluations",
        "evaluation.every_updates",
        "eval_steps",
        "eval_interval",
        "eval_every eval_interval eval_steps val_every evaluation_every eval_freq val_interval "
        "val_check_interval eval_every_steps evaluate_every val_loss_every eval_iters_interval",
    ),
    name(
        "evaluation_batch_size",
        "samples per device and evaluation batch",
        "",
        "per_device_eval_batch_size",
        "",
        "eval_batch_size val_batch_size valid_batch_size validation_batch_size evaluation_batch_size test_batch_size "
        "per_device_eval_batch_size",
    ),
    name(
        "data_workers",
        "processes that load data, per device; 0: the training process does",
        "",
        "dataloader_num_workers",
        "",
        "num_workers n_workers data_workers dataloader_workers dataloader_num_workers loader_workers",
    ),
)
