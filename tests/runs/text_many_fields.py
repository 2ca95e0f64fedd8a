"""Small logs in the style of scripts of many fields: vision, speech, graphs, physics, language; see `text_logs`.

Each names the program whose format it has; the numbers are made up.
"""

from __future__ import annotations

from tests.runs.text_logs import Case

LOSS = (2.71, 2.33, 2.02, 1.81, 1.64, 1.52)
VAL = (2.79, 2.42, 2.11, 1.93, 1.78, 1.69)
EPOCHS = list(range(1, 7))
HUNDREDS = [100, 200, 300, 400, 500, 600]
MATLAB_HEAD = (
    "|======================================================================|\n"
    "|  Epoch  |  Iteration  |  Time Elapsed  |  Mini-batch  |  Validation  |  Mini-batch  |  Base Learning  |\n"
    "|         |             |   (hh:mm:ss)   |   Accuracy   |     Loss     |     Loss     |      Rate       |\n"
    "|======================================================================|\n"
)


def _rows(line: str) -> str:
    """A line for each of the losses: `{e}` epoch from 1, `{s}` step, `{z}` epoch from 0, `{t}` and `{v}` the losses."""
    return "".join(
        line.format(e=k + 1, s=100 * (k + 1), z=k, t=t, v=v, a=0.3 + k / 10)
        for k, (t, v) in enumerate(zip(LOSS, VAL, strict=True))
    )


MANY_FIELDS = (
    Case(
        "fastai: a blank column, and times",
        "epoch     train_loss  valid_loss  accuracy  lr          time    \n"
        + _rows("{z:<10d}{t:<12f}{v:<12f}          1.000e-03   00:09     \n"),
        {"train/loss": (EPOCHS, list(LOSS)), "val/loss": (EPOCHS, list(VAL)), "lr/all": (EPOCHS, [1e-3] * 6)},
        axis="epoch",
    ),
    Case(
        "MATLAB trainNetwork: a header of two rows",
        MATLAB_HEAD
        + _rows("|       1 | {s:11d} |       00:00:0{e} |       {a:.2%} |  {v:.4f} |  {t:.4f} |          0.0100 |\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "val/loss": (HUNDREDS, list(VAL)), "lr/all": (HUNDREDS, [0.01] * 6),
         "train/accuracy": (HUNDREDS, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])},
    ),
    Case(
        "DeepXDE: lists of the parts of a loss",
        "Step      Train loss              Test loss               Test metric\n"
        + _rows("{s:<10d}[{t:.2e}, 1.00e+00]    [{v:.2e}, 2.00e+00]    [{a:.2e}]    \n"),
        {"train/loss": (HUNDREDS, [t + 1 for t in LOSS]), "val/loss": (HUNDREDS, [v + 2 for v in VAL])},
    ),
    Case(
        "Caffe's solver: outputs of the training and of the test net",
        _rows(
            "I0601 12:00:0{e}.123456 12345 solver.cpp:218] Iteration {s} (50 iter/s, 2s/100 iters), loss = {t}\n"
            "I0601 12:00:0{e}.123457 12345 solver.cpp:237]     Train net output #0: loss = {t} (* 1 = {t} loss)\n"
            "I0601 12:00:0{e}.123458 12345 sgd_solver.cpp:105] Iteration {s}, lr = 0.01\n"
            "I0601 12:00:0{e}.123459 12345 solver.cpp:330] Iteration {s}, Testing net (#0)\n"
            "I0601 12:00:0{e}.123460 12345 solver.cpp:397]     Test net output #0: loss = {v} (* 1 = {v} loss)\n"
        ),
        {"train/loss": (HUNDREDS, list(LOSS)), "val/loss": (HUNDREDS, list(VAL)), "lr/all": (HUNDREDS, [0.01] * 6),
         "time/step_ms": (HUNDREDS, [20.0] * 6)},
    ),
    Case(
        "Darknet: names behind their numbers",
        _rows("\n {s}: 9.9, {t} avg loss, 0.001000 rate, 3.2 seconds, 640 images, 12.3 hours left\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "lr/all": (HUNDREDS, [1e-3] * 6)},
    ),
    Case(
        "PaddleClas: costs, and the class of the schedule behind its rate",
        _rows(
            "[2022/05/05 12:00:0{e}] ppcls INFO: [Train][Epoch 1/10][Iter: {s}/1000]"
            "lr(CosineAnnealingDecay): 0.00100000, top1: 0.5, loss: {t}, "
            "batch_cost: 0.32000s, reader_cost: 0.00200, ips: 198.1 samples/s, eta: 0:11:12\n"
        ),
        {"train/loss": (HUNDREDS, list(LOSS)), "lr/all": (HUNDREDS, [1e-3] * 6),
         "time/step_ms": (HUNDREDS, [320.0] * 6), "time/data_ms": (HUNDREDS, [2.0] * 6)},
    ),
    Case(
        "Swin Transformer's logger: the place in brackets behind the time",
        "".join(
            f"[2023-01-01 12:00:0{b} swin_tiny] (main.py 226): INFO Train: [{e}/300][{b * 10}/20]\teta 0:01:02 "
            f"lr 0.001000\t wd 0.0500\ttime 0.3000 (0.3321)\tloss {3 - e - b / 10:.4f} (3.0)\t"
            "grad_norm 1.2000 (1.3)\tmem 9123MB\n"
            for e in (0, 1) for b in (0, 1)
        ),
        {"train/loss": ([0, 10, 20, 30], [3, 2.9, 2, 1.9]), "lr/all": ([0, 10, 20, 30], [1e-3] * 4),
         "grad_norm/preclip": ([0, 10, 20, 30], [1.2] * 4)},
        settings={"epochs": 300},
    ),
    Case(
        "Coqui TTS: changes, not means, in the brackets of an evaluation",
        _rows(
            "\n   --> TIME: 2023-04-04 15:09:0{e} -- STEP: 5/50 -- GLOBAL_STEP: {s}\n     | > loss: {t}  ({t})\n"
            "     | > current_lr: 0.001 \n\n\x1b[1m > EVALUATION \x1b[0m\n\n  --> EVAL PERFORMANCE\n"
            "     | > avg_loss: {v} \x1b[0m(+0)\n"
        ),
        {"train/loss": (HUNDREDS, list(LOSS)), "val/loss": (HUNDREDS, list(VAL))},
    ),
    Case(
        "PyTorch Geometric: accuracies under the names of phases",
        _rows("Epoch: {e:03d}, Loss: {t:.4f}, Train: {a:.4f}, Val: {a:.4f}, Test: {a:.4f}\n"),
        {"train/loss": (EPOCHS, list(LOSS)), "Val": (EPOCHS, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])},
        axis="epoch", absent=("val/loss",),
    ),
    Case(
        "a loss of validation under the name of the phase",
        _rows("Epoch: {e:03d}, Loss: {t:.4f}, Val: {v:.4f}\n"),
        {"train/loss": (EPOCHS, list(LOSS)), "val/loss": (EPOCHS, list(VAL))},
        axis="epoch",
    ),
    Case(
        "trax: the last cell of a row has its name before the wall",
        _rows("Step {s}: Ran 100 train steps in 61.12 secs\nStep {s}: train CrossEntropyLoss |  {t:.6f}\n"
              "Step {s}: eval  CrossEntropyLoss |  {v:.6f}\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "val/loss": (HUNDREDS, list(VAL))},
    ),
    Case(
        "names that begin with digits (neuraloperator)",
        _rows("[{z}] time=2.57, avg_loss={t:.4f}\nEval: 16_h1={v:.4f}, 32_h1=0.5\n"),
        {"train/loss": ([0, 1, 2, 3, 4, 5], list(LOSS)), "val/16_h1": ([0, 1, 2, 3, 4, 5], list(VAL))},
    ),
    Case(
        "letters of a paper: L, eta",
        _rows("it {s:6d} | L_train {t:.4e} | L_val {v:.4e} | eta 1.0e-03 | |g| 1.21\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "val/loss": (HUNDREDS, list(VAL)), "lr/all": (HUNDREDS, [1e-3] * 6),
         "grad_norm/preclip": (HUNDREDS, [1.21] * 6)},
    ),
    Case(
        "eta as the time left",
        "".join(f"step {s} loss {t} eta {60 - s / 10}\n" for s, t in zip(HUNDREDS, LOSS, strict=True)),
        {"train/loss": (HUNDREDS, list(LOSS))}, absent=("lr/all", "eta"),
    ),
    Case(
        "Greek letters",
        _rows("t={s} L={t:.4f} η=1.00e-03 ‖∇‖=1.23\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "lr/all": (HUNDREDS, [1e-3] * 6)},
    ),
    Case(
        "decimal commas",
        _rows("Epoche {e}: Trainingsverlust {t:.4f}; Validierungsverlust {v:.4f}\n").replace(".", ","),
        {"train/loss": (EPOCHS, list(LOSS)), "val/loss": (EPOCHS, list(VAL))},
        axis="epoch",
    ),
    Case(
        "Catalyst: the epoch twice",
        _rows("{e}/6 * Epoch {e} (train): loss: {t:.4f} | lr: 0.0010\n{e}/6 * Epoch {e} (valid): loss: {v:.4f}\n"),
        {"train/loss": (EPOCHS, list(LOSS)), "val/loss": (EPOCHS, list(VAL))},
        axis="epoch", settings={"epochs": 6},
    ),
    Case(
        "Poutyne: the last step of each epoch",
        _rows("Epoch: {e}/6 Step: 375/375 100.00% |██████████|17.49s loss: {t:.6f} val_loss: {v:.6f}\n"),
        {"train/loss": ([375 * e for e in EPOCHS], list(LOSS)), "val/loss": ([375 * e for e in EPOCHS], list(VAL))},
        settings={"epochs": 6, "updates": 2250},
    ),
    Case(
        "CatBoost: learn and test",
        "Learning rate set to 0.1\n"
        + _rows("{s}:\tlearn: {t}\ttest: {v}\tbest: {v} ({s})\ttotal: 1.1ms\tremaining: 1.2s\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "val/loss": (HUNDREDS, list(VAL))},
    ),
    Case(
        "pix2pix: options with their defaults, far to the right",
        "----------------- Options ---------------\n"
        "               batch_size: 4                             \t[default: 1]\n"
        "                       lr: 0.0002                        \n----------------- End -------------------\n"
        + _rows("(epoch: 1, iters: {s}, time: 0.213, data: 0.101) loss: {t} \n"),
        {"train/loss": (HUNDREDS, list(LOSS))}, settings={"batch_size": 4, "learning_rate": 2e-4},
    ),
    Case(
        "OpenAI baselines: blocks without a count, two parts of a loss",
        _rows("------------\n| loss/policy_loss | {t} |\n| loss/value_loss | {v} |\n| misc/total_timesteps | {s} |\n"
              "------------\n"),
        {"loss/policy_loss": (EPOCHS, list(LOSS)), "loss/value_loss": (EPOCHS, list(VAL))},
        axis="row", absent=("train/loss",),
    ),
    Case(
        "TensorFlow's object detection: a dictionary over several lines below its step",
        _rows(
            "INFO:tensorflow:Step {s} per-step time 0.381s\nINFO:tensorflow:{{'Loss/box_loss': 0.3,\n"
            " 'Loss/total_loss': {t},\n 'learning_rate': 0.001}}\n"
        ),
        {"train/loss": (HUNDREDS, list(LOSS)), "lr/all": (HUNDREDS, [1e-3] * 6)},
    ),
    Case(
        "the annotated transformer: the step of an epoch",
        _rows("Epoch Step: {s:6d} | Accumulation Step:   {e} | Loss: {t:6.2f} | Tokens / Sec:  2123.1 | "
              "Learning Rate: 8.1e-07\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "lr/all": (HUNDREDS, [8.1e-7] * 6)},
    ),
    Case(
        "WeNet: the epoch before the batch, cross-validation",
        _rows("2023-01-01 12:00:0{e},123 DEBUG TRAIN Batch 0/{s} loss {t:.6f} loss_ctc 9.1 lr 0.00100000 rank 0\n"
              "2023-01-01 12:00:0{e},124 DEBUG CV Batch 0/{s} loss {v:.6f} loss_ctc 9.1 rank 0\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "val/loss": (HUNDREDS, list(VAL)), "lr/all": (HUNDREDS, [1e-3] * 6)},
    ),
    Case(
        "DLRM: a step that is finished",
        _rows("Finished training it {s}/6000 of epoch 0, 31.12 ms/it, loss {t:.6f}, accuracy 71.0 %, 131072 samples\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "time/step_ms": (HUNDREDS, [31.12] * 6)},
        settings={"updates": 6000},
    ),
    Case(
        "segmentation_models.pytorch: dashes in the brackets of a bar",
        _rows("Epoch: {z}\ntrain: 100%|███| 46/46 [00:29<00:00,  1.55it/s, dice_loss - {t}, iou_score - 0.5]\n"
              "valid: 100%|███| 11/11 [00:08<00:00, 11.55it/s, dice_loss - {v}, iou_score - 0.5]\n"),
        {"train/loss": ([46 * e for e in EPOCHS], list(LOSS)), "val/loss": ([46 * e for e in EPOCHS], list(VAL))},
    ),
    Case(
        "NumPyro: the steps of a mean behind its name",
        _rows(" 10%|██ | {s}/3000 [00:01<00:20, 101.1it/s, init loss: 213.1, avg. loss [{e}-{s}]: {t}]\n"),
        {"train/loss": (HUNDREDS, list(LOSS))},
        settings={"updates": 3000},
    ),
    Case(
        "Sockeye's checkpoints: a phase and a hyphen",
        _rows("[2020-01-01:12:00:0{e}:INFO:sockeye.training] Checkpoint [{e}]\tTrain-perplexity={t}\n"
              "[2020-01-01:12:00:0{e}:INFO:sockeye.training] Checkpoint [{e}]\tValidation-perplexity={v}\n"),
        {"train/perplexity": (EPOCHS, list(LOSS)), "val/perplexity": (EPOCHS, list(VAL))},
        axis="row",
    ),
    Case(
        "samples counted by batches of a power of two",
        "".join(
            f"Training Epoch: {e} [{min(b * 128, 500)}/500]\tLoss: {3 - e / 2 - b / 10:.4f}\tLR: 0.100000\n"
            for e in (1, 2) for b in (1, 2, 3, 4)
        ),
        {"train/loss": ([1, 2, 3, 4, 5, 6, 7, 8], [2.4, 2.3, 2.2, 2.1, 1.9, 1.8, 1.7, 1.6])},
    ),
    Case(
        "the first tutorials of TensorFlow",
        _rows("Step {s}, Minibatch Loss= {t:.4f}, Training Accuracy= {a:.3f}\n"),
        {"train/loss": (HUNDREDS, list(LOSS)), "train/accuracy": (HUNDREDS, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])},
    ),
)  # fmt: skip
