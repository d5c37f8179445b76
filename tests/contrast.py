"""Contrast of every visible text of a page that is open in a browser."""

from playwright.sync_api import Page

LEAST = 4.5  # WCAG 2.2, 1.4.3, of text that is not large

# Against the first ground below the text that is not clear.
CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const told = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !one.checkVisibility()) continue;
    if (one.closest(".unseen, .skip")) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    told.push([walk.currentNode.textContent.trim().slice(0, 40), Math.round(100 * ratio) / 100]);
  }
  return told;
}
"""


def find_faint(page: Page) -> list[tuple[str, float]]:
    """List the texts that stand out too little, and by how much they do."""
    texts = page.evaluate(CONTRAST)
    assert len(texts) > 5, "the page shows hardly any text"
    return [(text, ratio) for text, ratio in texts if ratio < LEAST]
