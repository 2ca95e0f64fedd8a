"""More small logs, in the style of toolkits and of other languages; see `text_logs`."""

from __future__ import annotations

from tests.runs.text_logs import Case

BOX = "-----------------------------------\n"

TOOLKITS = (
    Case(
        "stable-baselines: a table of a name and a value a row",
        "".join(
            f"{BOX}| time/              |          |\n|    iterations      | {i}        |\n"
            f"| train/             |          |\n|    learning_rate   | 0.0003   |\n"
            f"|    loss            | {loss}     |\n|    n_updates       | {i * 10}       |\n{BOX}"
            for i, loss in ((1, 4.12), (2, 3.81), (3, 3.44), (4, 3.02))
        ),
        {"train/loss": ([1, 2, 3, 4], [4.12, 3.81, 3.44, 3.02]), "lr/all": ([1, 2, 3, 4], [3e-4] * 4)},
        absent=("n_updates",),
    ),
    Case(
        "a block under a heading, names and numbers apart by blanks",
        "".join(
            f"=== step {step} / 60 ===\n  train loss   {loss}\n  lr body      {1e-5 * step:.3e}\n"
            f"  lr head      {1e-3 * step:.3e}\n  grad norm    1.{step}\n  step time    18.{step} ms\n"
            for step, loss in zip(range(10, 70, 10), (2.31, 2.12, 1.98, 1.81, 1.75, 1.71), strict=True)
        ),
        {"train/loss": ([10, 20, 30, 40, 50, 60], [2.31, 2.12, 1.98, 1.81, 1.75, 1.71]),
         "lr/body": ([10, 20, 30, 40, 50, 60], [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4]),
         "lr/head": ([10, 20, 30, 40, 50, 60], [1e-2, 2e-2, 3e-2, 4e-2, 5e-2, 6e-2]),
         "grad_norm/preclip": ([10, 20, 30, 40, 50, 60], [1.1, 1.2, 1.3, 1.4, 1.5, 1.6]),
         "time/step_ms": ([10, 20, 30, 40, 50, 60], [18.1, 18.2, 18.3, 18.4, 18.5, 18.6])},
        settings={"updates": 60},
    ),
    Case(
        "a table whose count has a name of its own",
        "  nupd      tloss     vloss          lr\n"
        + "".join(
            f"{50 * k:6d}{2.6 - 0.1 * k:11.4f}{2.7 - 0.1 * k:10.4f}{1e-3 - 5e-5 * k:12.2e}\n" for k in range(1, 9)
        ),
        {"train/loss": ([50, 100, 150, 200, 250, 300, 350, 400], [2.5, 2.4, 2.3, 2.2, 2.1, 2.0, 1.9, 1.8]),
         "val/loss": ([50, 100, 150, 200, 250, 300, 350, 400], [2.6, 2.5, 2.4, 2.3, 2.2, 2.1, 2.0, 1.9]),
         "lr/all": ([50, 100, 150, 200, 250, 300, 350, 400],
                    [9.5e-4, 9e-4, 8.5e-4, 8e-4, 7.5e-4, 7e-4, 6.5e-4, 6e-4])},
    ),
    Case(
        "a table of a letter and a loss",
        "   t     loss\n" + "".join(f"{50 * k:4d}{2.6 - 0.1 * k:9.4f}\n" for k in range(1, 9)),
        {"train/loss": ([50, 100, 150, 200, 250, 300, 350, 400], [2.5, 2.4, 2.3, 2.2, 2.1, 2.0, 1.9, 1.8])},
    ),
    Case(
        "OLMo: a block of one metric a line",
        "".join(
            f"2024-03-01 12:00:0{i}.123\tnode01:0\tolmo.train:934\tINFO\t[step={i}/20000,epoch=0]\n"
            f"    optim/total_grad_norm={1 + i / 10:.4f}\n    train/CrossEntropyLoss={11 - i:.3f}\n"
            f"    throughput/total_tokens={4_194_304 * i:,}\n    optim/learning_rate_group0={i}.0000e-06\n"
            for i in (1, 2, 3)
        ),
        {"train/loss": ([1, 2, 3], [10, 9, 8]), "grad_norm/preclip": ([1, 2, 3], [1.1, 1.2, 1.3]),
         "lr/all": ([1, 2, 3], [1e-6, 2e-6, 3e-6])},
        settings={"updates": 20000},
    ),
    Case(
        "ESPnet: a range of batches",
        "".join(
            f"[node1] 2021-05-01 12:00:0{e},123 (trainer:732) INFO: {e}epoch:train:{b - 49}-{b}batch: "
            f"iter_time=1.2e-04, forward_time=0.15, loss_ctc={90 - b / 10:.3f}, acc=0.5{e}, loss={80 - b / 10:.3f}, "
            f"optim0_lr0={b}e-06, train_time=1.5\n"
            for e in (1, 2)
            for b in (50, 100, 150)
        ),
        {"train/loss": ([50, 100, 150, 200, 250, 300], [75, 70, 65, 75, 70, 65]),
         "lr/all": ([50, 100, 150, 200, 250, 300], [5e-5, 1e-4, 1.5e-4, 5e-5, 1e-4, 1.5e-4])},
    ),
    Case(
        "Tacotron 2: the step behind the name of the loss",
        "".join(
            f"Train loss {s} {5 - s / 100:.6f} Grad Norm {1 + s / 100:.6f} 2.05s/it\n"
            + (f"Validation loss {s}: {5.2 - s / 100:9f}  \n" if s % 10 == 0 else "")
            for s in range(31)
        ),
        {"train/loss": (list(range(31)), [5 - s / 100 for s in range(31)]),
         "val/loss": ([0, 10, 20, 30], [5.2, 5.1, 5.0, 4.9]),
         "grad_norm/preclip": (list(range(31)), [1 + s / 100 for s in range(31)])},
    ),
    Case(
        "Marian",
        "".join(
            f"[2019-01-01 10:00:0{k}] Ep. 1 : Up. {k * 500} : Sen. {k * 32_000:,} : Cost {9 - k:.8f} : Time 104.78s : "
            f"9611.92 words/s : gNorm 1.{k}000 : L.r. {k}.0000e-05\n"
            for k in (1, 2, 3)
        )
        + "[2019-01-01 10:00:09] [valid] Ep. 1 : Up. 1500 : cross-entropy : 6.4012 : new best\n",
        {"train/loss": ([500, 1000, 1500], [8, 7, 6]), "val/loss": ([1500], [6.4012]),
         "lr/all": ([500, 1000, 1500], [1e-5, 2e-5, 3e-5]), "grad_norm/preclip": ([500, 1000, 1500], [1.1, 1.2, 1.3])},
    ),
    Case(
        "Sockeye: rates behind their numbers",
        "".join(
            f"[2020-01-01:12:00:00:INFO:sockeye.training:speedometer] Epoch[0] Batch [{k * 50}] "
            f"Speed: 110.11 samples/sec {4000 + k}.02 tokens/sec 1.01 updates/sec\t"
            f"perplexity={100 - k}.100000\tlr=0.000300\n"
            for k in (1, 2, 3)
        ),
        {"throughput/tokens_per_second": ([50, 100, 150], [4001.02, 4002.02, 4003.02]),
         "train/perplexity": ([50, 100, 150], [99.1, 98.1, 97.1])},
    ),
    Case(
        "PaddlePaddle's Model.fit",
        "".join(
            f"Epoch {e}/3\n"
            + "".join(f"step {s}/60 - loss: {3 - e / 2 - s / 100:.4f} - acc: 0.{e}{s} - 31ms/step\n" for s in (30, 60))
            + "save checkpoint at /tmp/model\nEval begin...\n"
            + "".join(
                f"step {s}/20 - loss: {3.2 - e / 2 - s / 100:.4f} - acc: 0.{e}{s} - 12ms/step\n" for s in (10, 20)
            )
            + "Eval samples: 1280\n"
            for e in (1, 2, 3)
        ),
        {"train/loss": ([30, 60, 90, 120, 150, 180], [2.2, 1.9, 1.7, 1.4, 1.2, 0.9]),
         "val/loss": ([60, 120, 180], [2.5, 2.0, 1.5])},
        settings={"epochs": 3, "updates": 180},
    ),
    Case(
        "pytorch examples dcgan",
        "".join(
            f"[{e}/2][{b}/400]\tLoss_D: {1 - b / 1000:.4f}\tLoss_G: 2.{b:03d}0\tD(x): 0.8\tD(G(z)): 0.12 / 0.09\n"
            for e in (0, 1)
            for b in (0, 200)
        ),
        {"Loss_D": ([0, 200, 400, 600], [1, 0.8, 1, 0.8]), "Loss_G": ([0, 200, 400, 600], [2.0, 2.2, 2.0, 2.2])},
        settings={"epochs": 2, "updates": 800},
        absent=("train/loss",),
    ),
    Case(
        "a variational autoencoder's parts and their total",
        "".join(
            f"it {i:06d} rec={9 - i / 100:.3f} kl=0.{i:03d} total={10 - i / 100:.3f}\n" for i in (100, 200, 300, 400)
        ),
        {"train/loss": ([100, 200, 300, 400], [9, 8, 7, 6]), "rec": ([100, 200, 300, 400], [8, 7, 6, 5])},
    ),
    Case(
        "Chinese",
        "".join(
            f"第{e}轮 训练损失: {3 - e / 4:.4f} 验证损失: {3.1 - e / 4:.4f} 准确率: {50 + e}.00%\n" for e in (1, 2, 3)
        ),
        {"train/loss": ([1, 2, 3], [2.75, 2.5, 2.25]), "val/loss": ([1, 2, 3], [2.85, 2.6, 2.35])},
        axis="epoch",
    ),
    Case(
        "German",
        "".join(f"Schritt {s}: Verlust = {3 - s / 400:.4f}, Lernrate = 1.0e-04\n" for s in (100, 200, 300)),
        {"train/loss": ([100, 200, 300], [2.75, 2.5, 2.25]), "lr/all": ([100, 200, 300], [1e-4] * 3)},
    ),
    Case(
        "pictures and arrows",
        "".join(
            f"🚀 Epoch {e:02d} ▸ 📉 loss→{3 - e / 4:.4f} ▸ ✅ val→{3.1 - e / 4:.4f} ▸ 🎯 acc→{50 + e}% ▸ ⏱ 12s\n"
            for e in (1, 2, 3)
        ),
        {"train/loss": ([1, 2, 3], [2.75, 2.5, 2.25]), "val/loss": ([1, 2, 3], [2.85, 2.6, 2.35]),
         "train/accuracy": ([1, 2, 3], [0.51, 0.52, 0.53])},
        axis="epoch",
    ),
    Case(
        "names before their numbers",
        "".join(
            f"[ Info: (epoch, train_loss, test_loss) = ({e}, {3 - e / 4:.4f}f0, {3.1 - e / 4}f0)\n" for e in (1, 2, 3)
        ),
        {"train/loss": ([1, 2, 3], [2.75, 2.5, 2.25]), "val/loss": ([1, 2, 3], [2.85, 2.6, 2.35])},
        axis="epoch",
    ),
    Case(
        "many rows in one epoch, which is all they count",
        "".join(f"{{'loss': {3 - k / 10:.4f}, 'learning_rate': 2e-05, 'epoch': 0.0}}\n" for k in range(1, 9)),
        {"train/loss": (list(range(1, 9)), [2.9, 2.8, 2.7, 2.6, 2.5, 2.4, 2.3, 2.2])},
        axis="row",
        format="hf-stdout",
    ),
    Case(
        "a table of running values with a bar (YOLO)",
        "".join(
            "     Epoch   gpu_mem       box       obj       cls     total    labels  img_size\n"
            + "".join(
                f"\r      {e}/2     3.31G   0.07{b}   0.0200   0.0100   {1 - e / 4 - b / 100:.4f}        12       640: "
                f"{b * 10}%|{'█' * b}{' ' * (10 - b)}| {b}/10 [00:0{b // 2}<00:0{5 - b // 2},  2.10it/s]"
                for b in (5, 10)
            )
            + "\n"
            for e in (0, 1, 2)
        ),
        {"train/loss": ([10, 20, 30], [0.9, 0.65, 0.4])},
        settings={"epochs": 3},
    ),
    Case(
        "a game's losses, glued, under a count of games",
        "".join(
            f"2025-06-04 19:53:3{k}, batch i:{k}, episode_len:{28 + k}\n"
            f"kl:0.0{k}113,lr_multiplier:1.000,loss:{5.5 - k / 10},entropy:4.3{k},explained_var_new:0.106\n"
            for k in range(1, 9)
        ),
        {"train/loss": (list(range(1, 9)), [5.4, 5.3, 5.2, 5.1, 5.0, 4.9, 4.8, 4.7])},
    ),
)  # fmt: skip
