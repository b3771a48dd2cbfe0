"""Bars as SVG: for every workload the seconds of each mount, or where the
cache is the matter its hit ratio, on a scale of its own, the limits in grey."""

from xml.sax.saxutils import escape

COLOURS = {"r2fs": "#d9480f", "s3fs": "#1971c2", "rclone": "#2f9e44",
           "geesefs": "#9c36b5", "tigrisfs": "#e8590c", "goofys": "#5f3dc4",
           "mountpoint-s3": "#0b7285", "juicefs": "#a61e4d"}
LIMIT = "#868e96"
WIDTH, LABEL, BAR = 760, 150, 16
FONT = "font-family='sans-serif' font-size='12'"


def text(x, y, s, extra=""):
    return f"<text x='{x}' y='{y}' {FONT} {extra}>{escape(s)}</text>"


def measure(row):
    """Length of the bar and what stands at its end."""
    if "hit_ratio" in row:
        return row["hit_ratio"], f"{row['hit_ratio']:.2f}"
    return row["seconds"], f"{row['seconds']:.3g} s"


def bar(y, row, longest):
    room = WIDTH - LABEL - 90
    value, label = measure(row)
    length = max(1, room * value / longest)
    colour = COLOURS.get(row["peer"], LIMIT)
    return [text(LABEL - 8, y + 12, row["peer"], "text-anchor='end'"),
            f"<rect x='{LABEL}' y='{y + 2}' width='{length:.1f}' "
            f"height='{BAR - 4}' fill='{colour}'/>",
            text(LABEL + length + 6, y + 12, label)]


def bars(title, rows):
    out, y = [text(8, 20, title, "font-weight='bold'")], 32
    for work in dict.fromkeys(r["work"] for r in rows):
        mine = [r for r in rows if r["work"] == work]
        longest = max(measure(r)[0] for r in mine) or 1
        out.append(text(8, y + 12, work))
        y += BAR + 2
        for row in mine:
            out += bar(y, row, longest)
            y += BAR
        y += 10
    head = (f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' "
            f"height='{y}' viewBox='0 0 {WIDTH} {y}'>"
            f"<rect width='100%' height='100%' fill='white'/>")
    return "\n".join([head, *out, "</svg>"]) + "\n"
