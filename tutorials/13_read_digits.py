r"""
Read digits, and read the metrics
=================================

**How good is a network that is right 97 times of 100, and which three does it get wrong?**

Here everything comes together: data, a model, a loss, an optimizer, a training loop. Then the part that is often skipped:
looking at what the trained network does. One number, the accuracy, hides which mistakes it makes and how sure of itself it
was when it made them.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, metrics, nn, optim
from glassgrad.data import DataLoader, TensorDataset
from glassgrad.scope.thermometer import COLD, GOOD, HOT

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# Data that the network never sees
# --------------------------------
# 1797 images of 8 x 8 pixels. A fifth is put aside, and not looked at before the end.

images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
x = gg.tensor(images[order] / 16, dtype=gg.float32).reshape(-1, 1, 8, 8)
y = gg.tensor(labels[order])
TRAIN = 1437
train_x, train_y, test_x, test_y = x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]

# %%
# Two models, one loop
# --------------------
# The first looks at 64 numbers without knowing which pixels are neighbours. The second slides small windows over the image
# (lesson 34): what it learns in one corner it knows in all.

mlp = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
cnn = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip


def fit(model, epochs, lr=3e-3):
    """Mean training loss of each epoch."""
    loader = DataLoader(TensorDataset(train_x, train_y), batch_size=64, shuffle=True)
    optimizer = optim.Adam(model.parameters(), lr=lr)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    history = []
    for _ in range(epochs):
        model.train()
        losses = []
        for a, b in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(a), b)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        history.append(np.mean(losses))
    return history


def outputs(model):
    model.eval()
    with gg.no_grad():
        return model(test_x)


history = {"MLP": fit(mlp, 25), "CNN": fit(cnn, 12)}
answers = {"MLP": outputs(mlp), "CNN": outputs(cnn)}
accuracy = {name: metrics.accuracy(answer, test_y) for name, answer in answers.items()}

# %%
# How sure is that number?
# ------------------------
# n images, each right with probability p: the share that is right varies by the standard error sqrt(p (1 - p) / n) from one
# test set to the next.

n = len(test_y)
error = {name: np.sqrt(p * (1 - p) / n) for name, p in accuracy.items()}
gap = accuracy["CNN"] - accuracy["MLP"]
sure = gap / np.hypot(*error.values())
lesson.predict(
    f"MLP {accuracy['MLP']:.1%}, CNN {accuracy['CNN']:.1%}, on {n} images. By how much would the MLP's number change with other images, typically?",
    ["by about 0.1 %", "by about 1 %", "by about 5 %"],
    answer=int(np.digitize(100 * error["MLP"], [0.3, 3])),
    because=f"{error['MLP']:.1%}. The gap of {gap:.1%} is {sure:.1f} standard errors: {'hardly chance' if sure > 2 else 'it could be chance'}.",
)

# %%

lesson.claim("accuracy of the MLP on new images", accuracy["MLP"], 0.96, compare=">")
lesson.claim("accuracy of the CNN on new images", accuracy["CNN"], 0.98, compare=">")

# %%
# The theory can be checked: draw test sets of the same size, again and again, from the one there is.

right = (answers["MLP"].argmax(1) == test_y).numpy()
draws = np.random.default_rng(1).integers(0, n, (4000, n))
lesson.claim(
    "spread of the accuracy over 4000 drawn test sets",
    right[draws].mean(axis=1).std(),
    error["MLP"],
    tolerance=0.06,
    formula="sqrt(p (1 - p) / n)",
)

# %%
# Which ones?
# -----------
# The confusion matrix counts what each digit was taken for. Its diagonal is what is right.

table = metrics.confusion_matrix(answers["MLP"], test_y, 10).numpy()
assert table.sum() == n and table.trace() == right.sum()
probabilities = gg.softmax(answers["MLP"], dim=1).numpy()
wrong = np.flatnonzero(~right)
wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:6]  # the most certain mistakes first

figure = plt.figure(figsize=(9, 3.6), layout="constrained")
left, middle, side = figure.subplots(1, 3, width_ratios=(1.1, 1.2, 1.1))
for (name, losses), colour in zip(history.items(), (COLD, GOOD), strict=True):
    left.plot(np.arange(1, len(losses) + 1), losses, color=colour)
    left.annotate(
        name, (len(losses), losses[-1]), (-2, 7), textcoords="offset points", color=colour, ha="right", size=9
    )
left.set(yscale="log", xlabel="epoch", ylabel="training loss", title="Training")
shown = table.astype(float)
np.fill_diagonal(shown, 0)
middle.imshow(shown, cmap="Oranges", vmin=0, vmax=max(3, shown.max()))
for i in range(10):
    for j in range(10):
        if table[i, j]:
            middle.text(j, i, table[i, j], ha="center", va="center", size=8, color="#9aa4b2" if i == j else "#1b1f24")
middle.set(xticks=range(10), yticks=range(10), xlabel="taken for", ylabel="digit", title="MLP: who is taken for whom")
middle.grid(visible=False)
side.axis("off")
side.set_title("Its most certain mistakes")
for place, index in enumerate(wrong):
    ax = side.inset_axes(((place % 3) / 3 + 0.02, 0.55 - (place // 3) * 0.5, 0.28, 0.3))
    ax.imshow(test_x[int(index), 0].numpy(), cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    taken = probabilities[index].argmax()
    ax.set_title(f"{test_y[int(index)].item()} → {taken}, {probabilities[index, taken]:.0%}", size=8, color=HOT, pad=3)
lesson.picture(
    figure,
    "metrics",
    "Training losses, a table of which digit was taken for which, and six images that were misread with high certainty.",
)

# %%
# Where this lives
# ----------------

lesson.lives(metrics.confusion_matrix, lines=18)


# %%
# Exercise: precision and recall
# ------------------------------


@lesson.exercise(
    "Of what was called a d, which part is one (precision)? Of all d's, which part was found (recall)? "
    "precision_recall(table, d) returns both, from the confusion matrix.",
    check=lambda f: np.allclose(f(np.array([[8, 2], [1, 9]]), 0), (8 / 9, 0.8)),
    solution=lambda table, d: (table[d, d] / table[:, d].sum(), table[d, d] / table[d].sum()),
)
def precision_recall(table, d): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: all writers of these digits are in both sets, so a new hand will be read worse than the number says. And
    a network is most sure of itself just where it is wrong on images unlike any it has seen."""
)
