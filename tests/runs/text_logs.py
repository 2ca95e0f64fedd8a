"""Small logs in the style of real projects, each with what a reader must find in it.

Written for these tests in the format of the program that is named: none is copied. `updates` and `values` are of the
whole series, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Points = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Case:
    """A log, and what it says."""

    name: str
    text: str
    series: dict[str, Points]
    axis: str = "update"
    settings: dict[str, object] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    format: str = "text"


CASES = (
    Case(
        "pytorch examples imagenet",
        "=> creating model 'resnet18'\n"
        "Epoch: [0][  1/400]\tTime  3.100 ( 3.100)\tData  1.900 ( 1.900)\tLoss 7.0312e+00 (7.0312e+00)\t"
        "Acc@1   0.00 (  0.00)\tAcc@5   0.39 (  0.39)\n"
        "Epoch: [0][201/400]\tTime  0.250 ( 0.300)\tData  0.001 ( 0.020)\tLoss 6.4102e+00 (6.6000e+00)\t"
        "Acc@1   3.12 (  1.50)\tAcc@5  10.94 (  5.10)\n"
        "Test: [ 1/50]\tTime  1.100 ( 1.100)\tLoss 6.0000e+00 (6.0000e+00)\tAcc@1   4.00 (  4.00)\tAcc@5  12.00 ( 12.00)\n"
        "Test: [11/50]\tTime  0.100 ( 0.200)\tLoss 6.2000e+00 (6.1500e+00)\tAcc@1   5.00 (  4.40)\tAcc@5  13.00 ( 12.20)\n"
        " *   Acc@1 4.560 Acc@5 13.120\n"
        "Epoch: [1][  1/400]\tTime  3.000 ( 3.000)\tData  1.800 ( 1.800)\tLoss 5.9000e+00 (5.9000e+00)\t"
        "Acc@1   6.25 (  6.25)\tAcc@5  15.00 ( 15.00)\n"
        "Epoch: [1][201/400]\tTime  0.250 ( 0.300)\tData  0.001 ( 0.020)\tLoss 5.5000e+00 (5.7000e+00)\t"
        "Acc@1   8.20 (  7.50)\tAcc@5  20.31 ( 17.00)\n"
        "Test: [ 1/50]\tTime  1.000 ( 1.000)\tLoss 5.4000e+00 (5.4000e+00)\tAcc@1   9.00 (  9.00)\tAcc@5  21.00 ( 21.00)\n"
        "Test: [11/50]\tTime  0.100 ( 0.200)\tLoss 5.6000e+00 (5.5500e+00)\tAcc@1   9.50 (  9.10)\tAcc@5  22.00 ( 21.40)\n"
        " *   Acc@1 9.240 Acc@5 21.980\n",
        {"train/loss": ([1, 201, 401, 601], [7.0312, 6.4102, 5.9, 5.5]), "val/loss": ([201, 601], [6.15, 5.55]),
         "time/step_ms": ([1, 201, 401, 601], [3100, 250, 3000, 250])},
    ),
    Case(
        "the wait for data beside the time of a step",
        "".join(f"step {k:5d}/300 | loss {4 - k / 100:.4f} | {120 + k / 10:.1f} ms/step | data {108 + k / 100:.1f} ms\n"
                for k in range(10, 60, 10)),
        {"train/loss": ([10, 20, 30, 40, 50], [3.9, 3.8, 3.7, 3.6, 3.5]),
         "time/step_ms": ([10, 20, 30, 40, 50], [121, 122, 123, 124, 125]),
         "time/data_ms": ([10, 20, 30, 40, 50], [108.1, 108.2, 108.3, 108.4, 108.5])},
    ),
    Case(
        "pytorch examples mnist",
        "".join(
            f"Train Epoch: {e} [{b * 640}/60000 ({b}%)]\tLoss: {2.3 / (b + 3 * e):.6f}\n" for e in (1, 2) for b in range(3)
        ).replace("Train Epoch: 2 [0/", "\nTest set: Average loss: 0.2049, Accuracy: 9374/10000 (94%)\n\nTrain Epoch: 2 [0/")
        + "\nTest set: Average loss: 0.1212, Accuracy: 9630/10000 (96%)\n",
        {"train/loss": ([0, 10, 20, 938, 948, 958], [0.766667, 0.575, 0.46, 0.383333, 0.328571, 0.2875]),
         "val/loss": ([20, 958], [0.2049, 0.1212]), "val/accuracy": ([20, 958], [0.9374, 0.963])},
    ),
    Case(
        "pytorch examples word_language_model",
        "| epoch   1 |   200/ 2983 batches | lr 20.00 | ms/batch 45.68 | loss  7.63 | ppl  2050.44\n"
        "| epoch   1 |   400/ 2983 batches | lr 20.00 | ms/batch 45.11 | loss  6.85 | ppl   945.93\n"
        "-----------------------------------------------------------------------------------------\n"
        "| end of epoch   1 | time: 142.30s | valid loss  5.50 | valid ppl   245.12\n"
        "-----------------------------------------------------------------------------------------\n"
        "| epoch   2 |   200/ 2983 batches | lr 20.00 | ms/batch 45.03 | loss  5.61 | ppl   273.14\n"
        "| end of epoch   2 | time: 142.50s | valid loss  5.21 | valid ppl   183.09\n"
        "| End of training | test loss  5.14 | test ppl   170.72\n",
        {"train/loss": ([200, 400, 3183], [7.63, 6.85, 5.61]), "val/loss": ([2983, 5966], [5.5, 5.21]),
         "lr/all": ([200, 400, 3183], [20, 20, 20]), "train/perplexity": ([200, 400, 3183], [2050.44, 945.93, 273.14]),
         "val/perplexity": ([2983, 5966], [245.12, 183.09]), "time/step_ms": ([200, 400, 3183], [45.68, 45.11, 45.03])},
    ),
    Case(
        "pytorch quickstart tutorial",
        "Using cpu device\nEpoch 1\n-------------------------------\n"
        "loss: 2.303494  [   64/60000]\nloss: 2.294637  [ 6464/60000]\nloss: 2.270644  [12864/60000]\n"
        "Test Error: \n Accuracy: 50.9%, Avg loss: 2.150000 \n\nEpoch 2\n-------------------------------\n"
        "loss: 2.166000  [   64/60000]\nloss: 2.158000  [ 6464/60000]\nloss: 2.100000  [12864/60000]\n"
        "Test Error: \n Accuracy: 58.2%, Avg loss: 1.890000 \n\nDone!\n",
        {"train/loss": ([1, 101, 201, 939, 1039, 1139], [2.303494, 2.294637, 2.270644, 2.166, 2.158, 2.1]),
         "val/loss": ([201, 1139], [2.15, 1.89]), "val/accuracy": ([201, 1139], [0.509, 0.582])},
    ),
    Case(
        "pytorch transfer learning tutorial",
        "Epoch 0/2\n----------\ntrain Loss: 0.6289 Acc: 0.6926\nval Loss: 0.3124 Acc: 0.8954\n\n"
        "Epoch 1/2\n----------\ntrain Loss: 0.5201 Acc: 0.7787\nval Loss: 0.2510 Acc: 0.9020\n\n"
        "Epoch 2/2\n----------\ntrain Loss: 0.4802 Acc: 0.8100\nval Loss: 0.2433 Acc: 0.9150\n\n"
        "Training complete in 1m 23s\nBest val Acc: 0.915033\n",
        {"train/loss": ([1, 2, 3], [0.6289, 0.5201, 0.4802]), "val/loss": ([1, 2, 3], [0.3124, 0.251, 0.2433]),
         "train/accuracy": ([1, 2, 3], [0.6926, 0.7787, 0.81]), "val/accuracy": ([1, 2, 3], [0.8954, 0.902, 0.915])},
        axis="epoch",
    ),
    Case(
        "pytorch cifar tutorial",
        "[1,  2000] loss: 2.173\n[1,  4000] loss: 1.831\n[1,  6000] loss: 1.664\n"
        "[2,  2000] loss: 1.394\n[2,  4000] loss: 1.373\n[2,  6000] loss: 1.337\nFinished Training\n",
        {"train/loss": ([2000, 4000, 6000, 8000, 10000, 12000], [2.173, 1.831, 1.664, 1.394, 1.373, 1.337])},
    ),
    Case(
        "timm train.py",
        "Train: 0 [   0/1251 (  0%)]  Loss: 6.948 (6.948)  Time: 2.345s,  109.16/s  (2.345s,  109.16/s)  LR: 1.000e-06  "
        "Data: 1.100 (1.100)\n"
        "Train: 0 [  50/1251 (  4%)]  Loss: 6.921 (6.934)  Time: 0.345s,  742.16/s  (0.445s,  575.16/s)  LR: 1.000e-06  "
        "Data: 0.010 (0.030)\n"
        "Test: [   0/48]  Time: 1.234 (1.234)  Loss:   6.850 ( 6.850)  Acc@1:   0.391 (  0.391)  Acc@5:   1.562 (  1.562)\n"
        "Test: [  48/48]  Time: 0.234 (0.534)  Loss:   6.870 ( 6.880)  Acc@1:   0.500 (  0.420)  Acc@5:   1.700 (  1.600)\n"
        "Train: 1 [   0/1251 (  0%)]  Loss: 6.812 (6.812)  Time: 2.245s,  114.16/s  (2.245s,  114.16/s)  LR: 2.000e-04  "
        "Data: 1.000 (1.000)\n"
        "Test: [   0/48]  Time: 1.134 (1.134)  Loss:   6.550 ( 6.550)  Acc@1:   1.391 (  1.391)  Acc@5:   3.562 (  3.562)\n"
        "Test: [  48/48]  Time: 0.234 (0.534)  Loss:   6.570 ( 6.580)  Acc@1:   1.500 (  1.420)  Acc@5:   3.700 (  3.600)\n",
        {"train/loss": ([0, 50, 1251], [6.948, 6.921, 6.812]), "val/loss": ([50, 1251], [6.88, 6.58]),
         "lr/all": ([0, 50, 1251], [1e-6, 1e-6, 2e-4])},
    ),
    Case(
        "detr metric logger",
        "Epoch: [0]  [   0/1000]  eta: 0:30:11  lr: 0.000100  class_error: 99.80  loss: 40.5110 (40.5110)  "
        "loss_ce: 4.8100 (4.8100)  time: 1.8111  data: 0.5010  max mem: 4010\n"
        "Epoch: [0]  [  10/1000]  eta: 0:20:11  lr: 0.000100  class_error: 97.80  loss: 38.5110 (39.0110)  "
        "loss_ce: 4.1100 (4.5100)  time: 0.8111  data: 0.0510  max mem: 4810\n"
        "Epoch: [0] Total time: 0:15:00 (0.9000 s / it)\n"
        "Averaged stats: lr: 0.000100  class_error: 95.10  loss: 30.1110 (33.3110)  loss_ce: 3.2100 (3.5100)\n"
        "Epoch: [1]  [   0/1000]  eta: 0:16:11  lr: 0.000100  class_error: 90.80  loss: 29.5110 (29.5110)  "
        "loss_ce: 3.1100 (3.1100)  time: 0.9111  data: 0.3010  max mem: 4810\n"
        "Averaged stats: lr: 0.000100  class_error: 85.10  loss: 25.1110 (27.3110)  loss_ce: 2.2100 (2.5100)\n",
        {"train/loss": ([0, 10, 1000], [40.511, 38.511, 29.511]), "lr/all": ([0, 10, 1000], [1e-4, 1e-4, 1e-4])},
    ),
    Case(
        "detectron2 console",
        "[01/02 12:00:00 d2.utils.events]:  eta: 0:10:00  iter: 19  total_loss: 1.512  loss_cls: 0.812  loss_box_reg: 0.2  "
        "time: 0.3010  data_time: 0.0210  lr: 1.6e-05  max_mem: 2000M\n"
        "[01/02 12:00:06 d2.utils.events]:  eta: 0:09:54  iter: 39  total_loss: 1.311  loss_cls: 0.712  loss_box_reg: 0.2  "
        "time: 0.3010  data_time: 0.0210  lr: 3.2e-05  max_mem: 2000M\n"
        "[01/02 12:00:12 d2.utils.events]:  eta: 1 day, 0:09:48  iter: 59  total_loss: 1.207  loss_cls: 0.62  "
        "loss_box_reg: 0.3  time: 0.3010  data_time: 0.0210  lr: 4.8e-05  max_mem: 2000M\n",
        {"train/loss": ([19, 39, 59], [1.512, 1.311, 1.207]), "lr/all": ([19, 39, 59], [1.6e-5, 3.2e-5, 4.8e-5])},
    ),
    Case(
        "opennmt-py",
        "[2020-01-01 12:00:00,123 INFO]  * src vocab size = 50002\n"
        "[2020-01-01 12:00:20,123 INFO] Step 50/100000; acc:   3.98; ppl: 12345.67; xent: 9.42; lr: 0.00001; "
        "1234/1345 tok/s;     12 sec\n"
        "[2020-01-01 12:00:40,123 INFO] Step 100/100000; acc:   6.11; ppl: 2345.67; xent: 7.76; lr: 0.00002; "
        "1244/1355 tok/s;     24 sec\n"
        "[2020-01-01 12:00:41,123 INFO] Validation perplexity: 1500.5\n"
        "[2020-01-01 12:00:41,123 INFO] Validation accuracy: 8.25\n"
        "[2020-01-01 12:01:00,123 INFO] Step 150/100000; acc:   8.10; ppl: 1345.67; xent: 7.20; lr: 0.00003; "
        "1254/1365 tok/s;     36 sec\n"
        "[2020-01-01 12:01:01,123 INFO] Validation perplexity: 1100.5\n"
        "[2020-01-01 12:01:01,123 INFO] Validation accuracy: 9.25\n",
        {"train/loss": ([50, 100, 150], [9.42, 7.76, 7.2]), "lr/all": ([50, 100, 150], [1e-5, 2e-5, 3e-5]),
         "val/perplexity": ([100, 150], [1500.5, 1100.5]), "val/accuracy": ([100, 150], [8.25, 9.25])},
        settings={"updates": 100000},
    ),
    Case(
        "deepspeed",
        "[2023-05-01 12:00:00,123] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0, lr=[9.65e-06, 9.65e-06], "
        "mom=[(0.9, 0.95), (0.9, 0.95)]\n"
        "steps: 10 loss: 10.9012 iter time (s): 0.512 samples/sec: 20.110\n"
        "[2023-05-01 12:00:05,123] [INFO] [logging.py:96:log_dist] [Rank 0] step=20, skipped=0, lr=[9.5e-06, 9.5e-06], "
        "mom=[(0.9, 0.95), (0.9, 0.95)]\n"
        "steps: 20 loss: 9.8012 iter time (s): 0.502 samples/sec: 20.510\n"
        "steps: 30 loss: 9.1012 iter time (s): 0.501 samples/sec: 20.610\n",
        {"train/loss": ([10, 20, 30], [10.9012, 9.8012, 9.1012]), "time/step_ms": ([10, 20, 30], [512, 502, 501]),
         "lr/0": ([10, 20], [9.65e-6, 9.5e-6])},
    ),
    Case(
        "flair",
        "2021-02-22 08:40:43,913 epoch 1 - iter 21/219 - loss 14.28931536 - samples/sec: 19.11 - lr: 0.000500\n"
        "2021-02-22 08:41:17,078 epoch 1 - iter 42/219 - loss 11.51475904 - samples/sec: 20.26 - lr: 0.000500\n"
        "2021-02-22 08:42:17,078 ----------------------------------------------------\n"
        "2021-02-22 08:42:17,078 EPOCH 1 done: loss 9.1000 - lr 0.0005000\n"
        "2021-02-22 08:42:18,078 DEV : loss 4.123 - score 0.6123\n"
        "2021-02-22 08:42:43,913 epoch 2 - iter 21/219 - loss 7.28931536 - samples/sec: 19.11 - lr: 0.000500\n"
        "2021-02-22 08:43:17,078 epoch 2 - iter 42/219 - loss 6.51475904 - samples/sec: 20.26 - lr: 0.000500\n"
        "2021-02-22 08:44:17,078 EPOCH 2 done: loss 6.1000 - lr 0.0005000\n"
        "2021-02-22 08:44:18,078 DEV : loss 3.123 - score 0.7123\n",
        {"val/loss": ([219, 438], [4.123, 3.123])},
    ),
    Case(
        "keras 3, verbose=1, to a file",
        "Epoch 1/2\n"
        " 1/94 ━━━━━━━━━━━━━━━━━━━━ 1:02 671ms/step - accuracy: 0.1094 - loss: 2.4182\n"
        "50/94 ━━━━━━━━━━━━━━━━━━━━ 0s 5ms/step - accuracy: 0.3094 - loss: 1.9182\n"
        "94/94 ━━━━━━━━━━━━━━━━━━━━ 2s 8ms/step - accuracy: 0.5094 - loss: 1.4182 - val_accuracy: 0.7000 - val_loss: 0.9000\n"
        "Epoch 2/2\n"
        " 1/94 ━━━━━━━━━━━━━━━━━━━━ 0s 6ms/step - accuracy: 0.7094 - loss: 0.9182\n"
        "94/94 ━━━━━━━━━━━━━━━━━━━━ 1s 6ms/step - accuracy: 0.7594 - loss: 0.8182 - val_accuracy: 0.7900 - val_loss: 0.6500\n",
        {"train/loss": ([94, 188], [1.4182, 0.8182]), "val/loss": ([94, 188], [0.9, 0.65]),
         "val/accuracy": ([94, 188], [0.7, 0.79]), "time/step_ms": ([94, 188], [8, 6])},
        settings={"epochs": 2},
    ),
    Case(
        "keras 2, a bar with backspaces",
        "Epoch 1/2\n\r 1/10 [==>...........................] - ETA: 5s - loss: 2.4000\b\b\b\b\b\b"
        "\r 5/10 [==============>...............] - ETA: 0s - loss: 2.0000\b\b\b\b\b\b"
        "\r10/10 [==============================] - 1s 20ms/step - loss: 1.8000 - val_loss: 1.5000\n"
        "Epoch 2/2\n\r 1/10 [==>...........................] - ETA: 0s - loss: 1.7000\b\b\b\b\b\b"
        "\r10/10 [==============================] - 1s 19ms/step - loss: 1.5000 - val_loss: 1.4000\n",
        {"train/loss": ([10, 20], [1.8, 1.5]), "val/loss": ([10, 20], [1.5, 1.4])},
    ),
    Case(
        "lightning progress bar",
        "".join(
            f"\rEpoch {e}: {p:3d}%|{'█' * (p // 20):5s}| {n}/50 [00:0{n // 25}<00:00, 30.10it/s, v_num=0, "
            f"train_loss={2 - e / 2 - n / 100:.3f}{f', val_loss={v}' if v else ''}]"
            for e, p, n, v in ((0, 0, 0, None), (0, 50, 25, None), (0, 100, 50, None), (0, 100, 50, 1.9),
                               (1, 0, 0, 1.9), (1, 50, 25, 1.9), (1, 100, 50, 1.9), (1, 100, 50, 1.7))
        ) + "\n`Trainer.fit` stopped: `max_epochs=2` reached.\n",
        {"val/loss": ([50, 100], [1.9, 1.7])},
    ),
    Case(
        "tqdm postfix with carriage returns",
        "train:   0%|          | 0/500 [00:00<?, ?it/s]\rtrain:   1%|▏         | 5/500 [00:00<00:34, 14.35it/s, "
        "loss=3.9248, lr=8.24e-04, gnorm=1.2453]\rtrain:   2%|▌         | 10/500 [00:00<00:33, 14.77it/s, loss=3.6951, "
        "lr=1.61e-03, gnorm=1.0266]\rtrain:   4%|▌         | 20/500 [00:01<00:33, 14.77it/s, loss=3.2951, lr=1.61e-03, "
        "gnorm=1.0166]\n[eval] step 20: val loss 3.3\n",
        {"train/loss": ([5, 10, 20], [3.9248, 3.6951, 3.2951]), "grad_norm/preclip": ([5, 10, 20], [1.2453, 1.0266, 1.0166])},
        settings={"updates": 500},
    ),
    Case(
        "colours, ranks and torchtitan",
        "".join(
            f"\x1b[32m[rank{r}]:[titan] 2024-06-01 12:00:0{k},123 - root - INFO - \x1b[31mstep: {10 * k:2d}  \x1b[32mloss: "
            f"{8 - k + r / 100:.4f}  \x1b[33mmemory: 20.12GiB(21.15%)  \x1b[34mtps: 5,{k}00  \x1b[35mmfu: 20.11%\x1b[39m\n"
            for k in (1, 2, 3) for r in (0, 1)
        ),
        {"train/loss": ([10, 20, 30], [7, 6, 5]), "throughput/tokens_per_second": ([10, 20, 30], [5100, 5200, 5300])},
    ),
    Case(
        "slurm ranks",
        "".join(f"{r}: step {k} | loss {5 - k + r / 10:.3f}\n" for k in range(1, 4) for r in (1, 0))
        + "slurmstepd: error: *** STEP 1234.0 ON node1 CANCELLED AT 2024-01-01T00:00:00 DUE TO TIME LIMIT ***\n",
        {"train/loss": ([1, 2, 3], [4, 3, 2])},
    ),
    Case(
        "micrograd",
        "step 0 loss 0.8958441028683222, accuracy 50.0%\nstep 1 loss 1.7235905336972022, accuracy 81.0%\n"
        "step 2 loss 0.7429006313851131, accuracy 77.0%\n",
        {"train/loss": ([0, 1, 2], [0.8958441028683222, 1.7235905336972022, 0.7429006313851131]),
         "train/accuracy": ([0, 1, 2], [0.5, 0.81, 0.77])},
    ),
    Case(
        "makemore.py",
        "step 0 | loss 3.3456 | step time 110.50ms\nstep 10 | loss 3.0012 | step time 12.11ms\n"
        "step 500 train loss: 2.4101 test loss: 2.4300\nstep 510 | loss 2.4012 | step time 12.31ms\n"
        "step 1000 train loss: 2.2101 test loss: 2.2500\n",
        {"val/loss": ([500, 1000], [2.43, 2.25]), "time/step_ms": ([0, 10, 510], [110.5, 12.11, 12.31])},
    ),
    Case(
        "makemore lecture",
        "      0/ 200000: 3.3239\n  10000/ 200000: 2.0322\n  20000/ 200000: 2.5675\n  30000/ 200000: 2.0125\n"
        "  40000/ 200000: 2.2446\n",
        {"train/loss": ([0, 10000, 20000, 30000, 40000], [3.3239, 2.0322, 2.5675, 2.0125, 2.2446])},
        settings={"updates": 200000},
    ),
    Case(
        "deep learning course",
        "Cost after iteration 0: 0.693147\nCost after iteration 100: 0.646432\nCost after iteration 200: 0.632514\n",
        {"train/loss": ([0, 100, 200], [0.693147, 0.646432, 0.632514])},
    ),
    Case(
        "fastai",
        "epoch     train_loss  valid_loss  accuracy  time    \n"
        "0         0.495012    0.351200    0.841000  00:09     \n1         0.381200    0.311500    0.861000  00:09     \n"
        "2         0.310000    0.301000    0.872000  00:10     \n",
        {"train/loss": ([1, 2, 3], [0.495012, 0.3812, 0.31]), "val/loss": ([1, 2, 3], [0.3512, 0.3115, 0.301]),
         "val/accuracy": ([1, 2, 3], [0.841, 0.861, 0.872])},
        axis="epoch",
    ),
    Case(
        "spacy",
        "\x1b[38;5;4mℹ Pipeline: ['tok2vec', 'ner']\x1b[0m\n"
        "E    #       LOSS TOK2VEC  LOSS NER  ENTS_F  ENTS_P  ENTS_R  SCORE \n"
        "---  ------  ------------  --------  ------  ------  ------  ------\n"
        "  0       0          0.00     45.67    0.10    0.20    0.10    0.00\n"
        "  0     200         82.31   2536.55   76.52   77.00   76.05    0.77\n"
        "  1     400        102.31   1536.55   80.52   81.00   80.05    0.81\n",
        {"LOSS NER": ([0, 200, 400], [45.67, 2536.55, 1536.55]), "SCORE": ([0, 200, 400], [0, 0.77, 0.81])},
    ),
    Case(
        "notebook table of transformers",
        "Step\tTraining Loss\tValidation Loss\n100\t2.310000\t2.210000\n200\t2.110000\t2.050000\n300\t2.010000\t1.990000\n",
        {"train/loss": ([100, 200, 300], [2.31, 2.11, 2.01]), "val/loss": ([100, 200, 300], [2.21, 2.05, 1.99])},
    ),
    Case(
        "markdown table",
        "Training\n\n| Epoch | Train Loss | Val Loss | Lr |\n|---|---|---|---|\n| 1 | 2.31 | 2.20 | 1e-3 |\n"
        "| 2 | 2.11 | 2.10 | 1e-3 |\n| 3 | 2.01 | 2.05 | 5e-4 |\n",
        {"train/loss": ([1, 2, 3], [2.31, 2.11, 2.01]), "val/loss": ([1, 2, 3], [2.2, 2.1, 2.05]),
         "lr/all": ([1, 2, 3], [1e-3, 1e-3, 5e-4])},
        axis="epoch",
    ),
    Case(
        "rich table",
        "┏━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━┓\n┃ epoch ┃ train_loss ┃ val_loss ┃\n┡━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━┩\n"
        "│     1 │     2.3100 │   2.2000 │\n│     2 │     2.1100 │   2.1000 │\n│     3 │     2.0100 │   2.0500 │\n"
        "└───────┴────────────┴──────────┘\n",
        {"train/loss": ([1, 2, 3], [2.31, 2.11, 2.01]), "val/loss": ([1, 2, 3], [2.2, 2.1, 2.05])},
        axis="epoch",
    ),
    Case(
        "pandas print",
        "   step  train_loss  val_loss        lr\n0   100      2.3100    2.2000  0.000300\n1   200      2.1100    2.1000  0.000200\n"
        "2   300      2.0100       NaN  0.000100\n",
        {"train/loss": ([100, 200, 300], [2.31, 2.11, 2.01]), "lr/all": ([100, 200, 300], [3e-4, 2e-4, 1e-4])},
    ),
    Case(
        "transformers console, steps from the bar",
        "  0%|          | 0/300 [00:00<?, ?it/s]\r  3%|▎         | 10/300 [00:01<00:29, 9.9it/s]"
        "{'loss': 4.086, 'grad_norm': 2.282, 'learning_rate': 0.00018, 'epoch': 0.1}\n"
        "\r  3%|▎         | 10/300 [00:01<00:29, 9.9it/s]\r  7%|▋         | 20/300 [00:02<00:28, 9.9it/s]"
        "{'loss': 3.855, 'grad_norm': 1.219, 'learning_rate': 0.00038, 'epoch': 0.2}\n"
        "\r  7%|▋         | 20/300 [00:02<00:28, 9.9it/s]{'eval_loss': 3.7, 'eval_runtime': 0.31, "
        "'eval_samples_per_second': 825.9, 'epoch': 0.2}\n\r 10%|▋         | 30/300 [00:03<00:27, 9.9it/s]"
        "{'loss': 3.628, 'grad_norm': 1.017, 'learning_rate': 0.00058, 'epoch': 0.3}\n"
        "\r 10%|▋         | 30/300 [00:03<00:27, 9.9it/s]"
        "{'train_runtime': 27.9, 'train_samples_per_second': 401.4, 'train_loss': 3.85, 'epoch': 0.3}\n",
        {"train/loss": ([10, 20, 30], [4.086, 3.855, 3.628]), "val/loss": ([20], [3.7]),
         "lr/all": ([10, 20, 30], [1.8e-4, 3.8e-4, 5.8e-4])},
        format="hf-stdout", settings={"updates": 300}, absent=("eval_runtime", "train_loss"),
    ),
    Case(
        "tensorflow estimator",
        "INFO:tensorflow:loss = 2.3025, step = 0\nINFO:tensorflow:global_step/sec: 80.1\n"
        "INFO:tensorflow:loss = 1.3025, step = 100 (1.248 sec)\nINFO:tensorflow:loss = 0.9025, step = 200 (1.250 sec)\n"
        "INFO:tensorflow:Saving dict for global step 200: accuracy = 0.9, global_step = 200, loss = 0.85\n"
        "INFO:tensorflow:loss = 0.8025, step = 300 (1.250 sec)\n"
        "INFO:tensorflow:Saving dict for global step 300: accuracy = 0.91, global_step = 300, loss = 0.75\n",
        {"train/loss": ([0, 100, 200, 300], [2.3025, 1.3025, 0.9025, 0.8025]), "val/loss": ([200, 300], [0.85, 0.75]),
         "val/accuracy": ([200, 300], [0.9, 0.91])},
    ),
    Case(
        "scikit-learn MLP",
        "Iteration 1, loss = 0.69314718\nValidation score: 0.510000\nIteration 2, loss = 0.61214718\n"
        "Validation score: 0.610000\nIteration 3, loss = 0.55214718\nValidation score: 0.650000\n",
        {"train/loss": ([1, 2, 3], [0.69314718, 0.61214718, 0.55214718]), "Validation score": ([1, 2, 3], [0.51, 0.61, 0.65])},
    ),
    Case(
        "xgboost",
        "[0]\ttrain-logloss:0.65123\teval-logloss:0.66123\n[1]\ttrain-logloss:0.60123\teval-logloss:0.63123\n"
        "[2]\ttrain-logloss:0.55123\teval-logloss:0.60123\n",
        {"train/loss": ([0, 1, 2], [0.65123, 0.60123, 0.55123]), "val/loss": ([0, 1, 2], [0.66123, 0.63123, 0.60123])},
    ),
    Case(
        "lightgbm",
        "[LightGBM] [Info] Number of positive: 100, number of negative: 100\n"
        "[10]\ttraining's binary_logloss: 0.651\tvalid_1's binary_logloss: 0.661\n"
        "[20]\ttraining's binary_logloss: 0.601\tvalid_1's binary_logloss: 0.631\n"
        "[30]\ttraining's binary_logloss: 0.551\tvalid_1's binary_logloss: 0.601\n",
        {"train/loss": ([10, 20, 30], [0.651, 0.601, 0.551]), "val/loss": ([10, 20, 30], [0.661, 0.631, 0.601])},
    ),
    Case(
        "litgpt",
        "Epoch 1 | iter 1 step 0 | loss train: 10.918, val: n/a | iter time: 2300.55 ms\n"
        "Epoch 1 | iter 2 step 1 | loss train: 10.818, val: n/a | iter time: 300.55 ms (step)\n"
        "Epoch 1 | iter 3 step 1 | loss train: 10.618, val: 10.500 | iter time: 300.50 ms\n"
        "Epoch 1 | iter 4 step 2 | loss train: 10.418, val: 10.500 | iter time: 301.55 ms (step)\n",
        {"train/loss": ([0, 1, 1, 2], [10.918, 10.818, 10.618, 10.418]), "val/loss": ([1, 2], [10.5, 10.5])},
    ),
    Case(
        "phase words before lists",
        "epoch 1 | train: loss 2.1 acc 0.8 | val: loss 2.3 acc 0.75\nepoch 2 | train: loss 1.9 acc 0.82 | val: loss 2.2 acc 0.76\n"
        "epoch 3 | train: loss 1.8 acc 0.84 | val: loss 2.1 acc 0.77\n",
        {"train/loss": ([1, 2, 3], [2.1, 1.9, 1.8]), "val/loss": ([1, 2, 3], [2.3, 2.2, 2.1]),
         "train/accuracy": ([1, 2, 3], [0.8, 0.82, 0.84]), "val/accuracy": ([1, 2, 3], [0.75, 0.76, 0.77])},
        axis="epoch",
    ),
    Case(
        "step kind value",
        "0 val 10.9522\n0 train 10.9600\n100 train 6.2000\n200 train 5.1000\n250 val 5.0522\n300 train 4.9000\n",
        {"train/loss": ([0, 100, 200, 300], [10.96, 6.2, 5.1, 4.9]), "val/loss": ([0, 250], [10.9522, 5.0522])},
    ),
    Case(
        "block per epoch",
        "Model Parameter Count: 66829394\n--------------------\nEpoch: 1/30\nTime Taken: 140.67s - LR: 9.98e-05\n"
        "Train Loss: 7.3080 - Train Perplexity: 1492.26\nValid Loss: 6.5195 - Valid Perplexity: 678.23\n"
        "--------------------\nEpoch: 2/30\nTime Taken: 30.12s - LR: 9.90e-05\n"
        "Train Loss: 6.2874 - Train Perplexity: 537.77\nValid Loss: 6.1203 - Valid Perplexity: 454.99\n"
        "--------------------\nEpoch: 3/30\nTime Taken: 30.09s - LR: 9.78e-05\n"
        "Train Loss: 5.9373 - Train Perplexity: 378.93\nValid Loss: 5.9044 - Valid Perplexity: 366.65\n",
        {"train/loss": ([1, 2, 3], [7.308, 6.2874, 5.9373]), "val/loss": ([1, 2, 3], [6.5195, 6.1203, 5.9044]),
         "lr/all": ([1, 2, 3], [9.98e-5, 9.9e-5, 9.78e-5])},
        axis="epoch", settings={"epochs": 30, "parameters": 66829394},
    ),
    Case(
        "composer console",
        "[batch=10/100]:\n\t Train time/epoch: 0\n\t Train loss/train/total: 11.2012\n\t Train lr-AdamW/group0: 0.0001\n"
        "[batch=20/100]:\n\t Train time/epoch: 0\n\t Train loss/train/total: 10.1012\n\t Train lr-AdamW/group0: 0.0002\n"
        "[batch=30/100]:\n\t Train time/epoch: 0\n\t Train loss/train/total: 9.8012\n\t Train lr-AdamW/group0: 0.0003\n",
        {"train/loss": ([10, 20, 30], [11.2012, 10.1012, 9.8012])},
        settings={"updates": 100},
    ),
    Case(
        "any separators and numbers",
        "it 1.2k, train loss = tensor(2.3100, device='cuda:0', grad_fn=<NllLossBackward0>), lr=1.0e-04, 12.3K tok/s\n"
        "it 1.3k, train loss = tensor(2.2100, device='cuda:0', grad_fn=<NllLossBackward0>), lr=9.0e-05, 12.5K tok/s\n"
        "it 1.4k, train loss = tensor(nan, device='cuda:0', grad_fn=<NllLossBackward0>), lr=8.0e-05, 1.1K tok/s\n",
        {"train/loss": ([1200, 1300, 1400], [2.31, 2.21, float("nan")]), "lr/all": ([1200, 1300, 1400], [1e-4, 9e-5, 8e-5]),
         "throughput/tokens_per_second": ([1200, 1300, 1400], [12300, 12500, 1100])},
    ),
    Case(
        "counts of another total",
        "Iter 100 of 5,000 | Loss 2.31 ± 0.02 | PPL 10.1\nIter 200 of 5,000 | Loss 2.11 ± 0.02 | PPL 8.2\n"
        "Iter 1,300 of 5,000 | Loss 1.91 ± 0.01 | PPL 6.7\n",
        {"train/loss": ([100, 200, 1300], [2.31, 2.11, 1.91]), "train/perplexity": ([100, 200, 1300], [10.1, 8.2, 6.7])},
        settings={"updates": 5000},
    ),
    Case(
        "yunjey tutorial",
        "".join(f"Epoch [{e}/2], Step [{s}/300], Loss: {3 - e - s / 1000:.4f}\n" for e in (1, 2) for s in (100, 200, 300)),
        {"train/loss": ([100, 200, 300, 400, 500, 600], [1.9, 1.8, 1.7, 0.9, 0.8, 0.7])},
        settings={"epochs": 2, "updates": 600},
    ),
    Case(
        "a bar per phase without a name",
        "".join(
            f"\nEpoch: {e}\n"
            + "".join(f"\r [===>......]  Step: {n}ms | Tot: 1s | Loss: {2 - e - n / 100:.3f} | Acc: 45.300% (1234/5000) {n}/{t}"
                      for t in (40, 10) for n in (t // 2, t))
            for e in (0, 1)
        ) + "\n",
        {"train/loss": ([20, 40, 60, 80], [1.8, 1.6, 0.8, 0.6]), "val/loss": ([40, 80], [1.9, 0.9])},
    ),
    Case(
        "learning rate printed as zero",
        "".join(f"step {k} | loss {3 - k / 100:.2f} | lr {0:.4f}\n" for k in range(0, 50, 10)),
        {"train/loss": ([0, 10, 20, 30, 40], [3, 2.9, 2.8, 2.7, 2.6])},
        absent=("lr/all",),
    ),
    Case(
        "letters for names",
        "s:0 tel:11.0095\ns:0 trl:11.0116 lr:0.000001 norm:14.96\ns:1 trl:10.9586 lr:0.000002 norm:15.18\n"
        "s:2 trl:10.8586 lr:0.000003 norm:14.18\ns:2 tel:10.9095\n",
        {"train/loss": ([0, 1, 2], [11.0116, 10.9586, 10.8586]), "val/loss": ([0, 2], [11.0095, 10.9095]),
         "grad_norm/preclip": ([0, 1, 2], [14.96, 15.18, 14.18])},
    ),
)  # fmt: skip

README = """# MyNet

Train with `python train.py --lr 3e-4 --epochs 30`. After 30 epochs the loss is 2.31 and the accuracy 75.3 %.

## Results

| Model | Params | Loss | Acc |
|---|---|---|---|
| small | 12M | 2.31 | 0.71 |
| base | 86M | 2.11 | 0.75 |

Training prints a line like this:

```
step 100 | loss 2.31 | lr 1e-4
step 200 | loss 2.11 | lr 1e-4
```

- [x] training
- [ ] evaluation at 2 epochs
"""

SOURCE = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.lin = nn.Linear(784, width)

    def forward(self, x):
        return self.lin(x)


for epoch in range(10):
    for step in range(100):
        loss = criterion(net(x), y)
        if step % 10 == 0:
            print(f"epoch {epoch} step {step} loss {loss.item():.4f}")
lr = 0.1
epochs = 10
steps = 100
"""

PIP = """Collecting torch==2.1.0
  Downloading torch-2.1.0-cp311-cp311-manylinux1_x86_64.whl (670.2 MB)
     ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 670.2/670.2 MB 2.1 MB/s eta 0:00:00
Requirement already satisfied: numpy in /usr/lib/python3/dist-packages (1.26.4)
Collecting accuracy-metrics>=0.3
  Downloading accuracy_metrics-0.3.1.tar.gz (12 kB)
Installing collected packages: torch, accuracy-metrics
Successfully installed accuracy-metrics-0.3.1 torch-2.1.0
"""

PROSE = """The company made a loss of 3 million in 2019 and a profit of 12 in 2020.
In step 1 we looked at 25 firms; in step 2 we kept 17 of them.
The training of 12 people took 3 weeks, and the loss of 2 of them cost 40 hours.
Accuracy matters: 9 of 10 readers found 3 errors on page 14.
Epoch 3 of the reign lasted 25 years. The rate of loss was 0.5 per year.
"""

CHAT = """User: My loss is 2.31 at step 100, is that good?
Assistant: For a vocabulary of 50257 the loss at step 0 should be 10.8, so 2.31 is low.
User: step 200 | loss 2.11
Assistant: It falls. What is the learning rate?
User: lr = 3e-4, batch_size = 32
Assistant: Then wait for 1000 steps.
"""

CSV = "step,loss,val_loss\n" + "".join(f"{k},{3 - k / 10:.3f},{3.1 - k / 10:.3f}\n" for k in range(20))

CONFIG = "epochs: 30\nlr: 0.001\nbatch_size: 32\noptimizer: adamw\nloss: cross_entropy\nloss_weight: 0.5\n"

NOT_LOGS = {"readme.md": README, "train.py": SOURCE, "pip.txt": PIP, "prose.txt": PROSE, "chat.txt": CHAT,
            "table.csv": CSV, "config.yaml": CONFIG}  # fmt: skip
