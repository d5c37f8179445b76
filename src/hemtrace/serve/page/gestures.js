// @ts-check
/** Mouse, wheel and fingers on the picture. */

/**
 * @typedef {object} Moves
 * @property {(by: number) => void} scroll Slices; positive is towards the top of the head.
 * @property {(across: number, down: number) => void} grey Pixels of a drag for width and level.
 * @property {(by: {zoom?: number, across?: number, down?: number}) => void} move
 * @property {() => void} reset
 */

const SLICE_PX = 14;
const WHEEL_PX = 60;

/**
 * @param {HTMLElement} screen
 * @param {Moves} moves
 */
export function watchGestures(screen, moves) {
  let wheel = 0;
  screen.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (event.ctrlKey) return moves.move({ zoom: Math.exp(-event.deltaY / 300) });
      // Touchpads send many small steps, mice send few large ones, Firefox counts lines.
      wheel += event.deltaMode ? event.deltaY * 30 : event.deltaY;
      const by = Math.trunc(wheel / WHEEL_PX);
      if (by) moves.scroll(-by);
      wheel -= by * WHEEL_PX;
    },
    { passive: false },
  );
  screen.addEventListener("dblclick", () => moves.reset());
  screen.addEventListener("contextmenu", (event) => event.preventDefault());

  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  let pulled = 0;
  const spread = () => {
    const [one, two] = [...fingers.values()];
    return Math.hypot(one.x - two.x, one.y - two.y);
  };
  screen.addEventListener("pointerdown", (event) => {
    screen.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    pulled = 0;
  });
  screen.addEventListener("pointermove", (event) => {
    const old = fingers.get(event.pointerId);
    if (!old) return;
    const [across, down] = [event.clientX - old.x, event.clientY - old.y];
    const before = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (fingers.size === 2)
      moves.move({ zoom: spread() / Math.max(1, before), across: across / 2, down: down / 2 });
    else if (event.pointerType === "touch") {
      pulled += down;
      const by = Math.trunc(pulled / SLICE_PX);
      if (by) moves.scroll(-by);
      pulled -= by * SLICE_PX;
    } else if (event.shiftKey || event.buttons & 6) moves.move({ across, down });
    else moves.grey(across, down);
  });
  for (const end of ["pointerup", "pointercancel"])
    screen.addEventListener(end, (event) =>
      fingers.delete(/** @type {PointerEvent} */ (event).pointerId),
    );
}
