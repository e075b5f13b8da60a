"""The demo's report: one HTML page that needs no other file."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

ACCENT, QUIET = "#d9691e", "#64748b"

STYLE = """
  body { margin: 0; background: #f6f4f1; color: #1b2430; font: 16px/1.55 system-ui, sans-serif }
  main { max-width: 1000px; margin: 0 auto; padding: 48px 24px 80px }
  h1 { font-size: 40px; letter-spacing: -1px; margin: 0 } h1 span { color: #d9691e }
  h2 { font-size: 22px; margin: 56px 0 6px }
  p { max-width: 74ch; margin: 0 0 18px; color: #475569 } .lead { font-size: 18px }
  .cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: 20px }
  .card { background: #fff; border: 1px solid #e6e1da; border-radius: 12px; overflow: hidden }
  .card > img { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: cover }
  .card .in, .pad { padding: 14px 18px 18px }
  .bar { position: relative; height: 26px; margin-top: 6px; border-radius: 5px; background: #f3f0ec;
         font-size: 14px; line-height: 26px; overflow: hidden }
  .bar i { position: absolute; inset: 0 auto 0 0; background: #f6cfa9 }
  .bar:first-child i { background: #f0a35e }
  .bar b, .bar em { position: absolute; font-weight: 500; font-style: normal }
  .bar b { left: 9px } .bar em { right: 9px; color: #475569; font-variant-numeric: tabular-nums }
  table { border-collapse: separate; border-spacing: 4px; font-variant-numeric: tabular-nums }
  th { font-weight: 500; color: #475569; padding: 4px 12px; text-align: right }
  td { padding: 10px 20px; border-radius: 6px; text-align: center }
  .two { display: grid; grid-template-columns: 3fr 2fr; gap: 20px; align-items: stretch }
  .digits { display: grid; grid-template-columns: repeat(auto-fill, minmax(46px, 1fr)); gap: 8px }
  .digits img { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block }
  .digits figure { margin: 0; text-align: center; font-size: 13px; color: #475569 }
  .digits .wrong { color: #b91c1c; font-weight: 600; white-space: nowrap; font-size: 12px }
  .drawn { display: flex; gap: 40px; justify-content: center; align-items: flex-start }
  .drawn figure { margin: 0 } .drawn figcaption { color: #475569; margin-bottom: 14px }
  .drawn svg { max-width: 100%; height: auto }
  code { font-size: 0.9em; background: #ece7e0; border-radius: 4px; padding: 1px 5px }
  h3 { font-size: 15px; margin: 0 0 10px } .note { font-size: 14px; margin: 10px 0 0 }
  @media (max-width: 760px) {
    .cards, .two { grid-template-columns: 1fr } .drawn { display: block }
  }
"""


def page(names, similar, digits, drawings):
    """The page, from what the demo has found."""
    parts = [photographs(names), likeness(*similar), learning(digits), pictures(drawings)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>flambeau: a demonstration</title><style>{STYLE}</style></head>\n<body><main>\n"
        "<h1>flambeau<span>.</span></h1>\n"
        '<p class="lead">Two trained networks, one from PyTorch and one from Caffe, named, cut '
        "open and trained further on NumPy arrays.</p>\n"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def photographs(names):
    """The photographs and what is in them, by probability."""
    cards = []
    for path, labels in names:
        bars = "".join(bar(label, probability) for label, probability in labels)
        cards.append(
            f'<div class="card"><img src="{photograph(path)}" alt="{escape(path.stem)}">'
            f'<div class="in">{bars}</div></div>'
        )
    return (
        "<h2>What is in a photograph</h2>\n<p>EfficientNet-Lite0, of 1000 things it was trained to "
        "tell apart; the five likeliest and their probabilities.</p>\n"
        f'<div class="cards">{"".join(cards)}</div>'
    )


def bar(label, probability):
    """A label on a bar as long as its probability."""
    return (
        f'<div class="bar"><i style="width:{probability:.1%}"></i><b>{escape(label)}</b>'
        f"<em>{probability:.1%}</em></div>"
    )


def likeness(names, cosines):
    """A table of cosines, the darker the more alike."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for name, row in zip(names, cosines, strict=True):
        cells = "".join(f'<td style="background:{shade(c)}">{c:.2f}</td>' for c in row)
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        "<h2>What a network sees on the way</h2>\n<p>A ResNet read from Caffe’s own files. Every "
        "inner value has the name that the prototxt gives it: here are the 1024 values of "
        "<code>pool</code> for each photograph, compared by the cosine of the angle between "
        "them; 1 is the same direction.</p>\n"
        f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
    )


def shade(cosine):
    """A colour for 0 to 1."""
    return f"rgba(217, 105, 30, {max(0.0, min(1.0, float(cosine))) ** 2:.2f})"


def learning(digits):
    """The curves of training, and some of the digits with what they were taken for."""
    tested, curves = digits["tested"], digits["curves"]
    wrong = [row for row in tested if row[1] != row[2]]
    right = [row for row in tested if row[1] == row[2]][: 24 - len(wrong)]
    final = {title: scores[-1] for title, scores in curves.items()}
    return (
        f"<h2>A classifier of one’s own</h2>\n<p>Handwritten digits of 8 × 8 pixels, a thing that "
        f"neither network has ever seen. EfficientNet-Lite0 runs up to its layer "
        f"<code>{digits['layer']}</code>, once for each image; a linear classifier learns on these "
        f"{digits['values']} values. The same classifier on the 64 raw pixels gets "
        f"{final['raw pixels']:.1%} of {len(tested)} held-out digits right, on the features "
        f"{final['features']:.1%}.</p>\n"
        f'<div class="two"><div class="card pad">{chart(curves)}</div>'
        '<div class="card pad"><h3>Digits, and what the features say</h3>'
        f'<div class="digits">{"".join(digit(*row) for row in wrong + right)}</div>'
        f'<p class="note">Mistakes are red: {len(wrong)} of {len(tested)}.</p></div></div>'
    )


def digit(image, label, predicted):
    """A digit, what it was taken for, and in case of a mistake what it is."""
    said = f"{predicted}"
    if label != predicted:
        said = f'<span class="wrong">{predicted}, is {label}</span>'
    pixels = Image.fromarray((255 - image * 15.9).astype("u1"))
    return f'<figure><img src="{data(pixels, "PNG")}" alt="{label}">{said}</figure>'


def chart(curves, width=540, height=390):
    """Lines of accuracy by epoch, as SVG."""
    left, top, right, bottom = 46, 34, 96, 40
    worst = min(min(scores) for scores in curves.values())
    low = np.floor(worst * 20) / 20 - (0.05 if worst * 20 % 1 < 0.2 else 0)
    epochs = len(next(iter(curves.values())))

    def at(epoch, score):
        x = left + (epoch - 1) / (epochs - 1) * (width - left - right)
        return x, top + (1 - score) / (1 - low) * (height - top - bottom)

    parts = [text(left, 16, "held-out digits that are right", "start", "#1b2430", 600)]
    step = 0.05 if 1 - low > 0.11 else 0.02
    for score in np.arange(1, low - 1e-6, -step):
        (x0, y), (x1, _) = at(1, score), at(epochs, score)
        parts.append(f'<path d="M{x0:.1f} {y:.1f}H{x1:.1f}" stroke="#e6e1da"/>')
        parts.append(text(left - 8, y + 4, f"{score:.0%}", "end"))
    for epoch in range(1, epochs + 1, 2):
        parts.append(text(at(epoch, low)[0], height - bottom + 20, str(epoch)))
    parts.append(text(at(epochs, low)[0] + 14, height - bottom + 20, "epoch", "start"))
    for (title, scores), colour in zip(curves.items(), (QUIET, ACCENT), strict=True):
        points = [at(epoch, score) for epoch, score in enumerate(scores, 1)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5" '
            'stroke-linejoin="round"/>'
        )
        x, y = points[-1]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        parts.append(text(x + 12, y, f"{scores[-1]:.1%}", "start", colour, 600))
        parts.append(text(x + 12, y + 15, title, "start", colour))
    return f'<svg viewBox="0 0 {width} {height}" width="100%">{"".join(parts)}</svg>'


def text(x, y, words, anchor="middle", colour=QUIET, weight=400):
    """Words at a place of an SVG."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="13" font-weight="{weight}">{escape(words)}</text>'
    )


def pictures(drawings):
    """Drawings of networks."""
    figures = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in drawings
    )
    return (
        "<h2>The networks, drawn by themselves</h2>\n<p>Layers with weights are orange; beside "
        "each wire is the shape of what it carries, for one photograph.</p>\n"
        f'<div class="card pad"><div class="drawn">{figures}</div></div>'
    )


def photograph(path, width=480):
    """A photograph, made small, as a data URI."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    image.thumbnail((width, width))
    return data(image, "JPEG", quality=84)


def data(image, form, **options):
    """An image as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}"
