/**
 * What a reader says of a frame that it refuses: one of the classes of ERR-1.
 */

/** The classes, in the order in which they outrank each other (ERR-2). */
export const CLASSES = [
  "truncated",
  "frame_too_large",
  "empty_frame",
  "bad_utf8",
  "bad_json",
  "too_deep",
  "bad_envelope",
  "unsupported_version",
  "missing_field",
  "bad_type",
  "bad_value",
  "out_of_range",
  "bad_checksum",
];

export class Refused extends Error {
  constructor(kind, text) {
    super(text ?? kind);
    this.kind = kind;
  }
}

/** Collects the faults of one payload, and remembers the one that outranks the others. */
export class Faults {
  constructor() {
    this.rank = CLASSES.length;
    this.text = "";
  }

  add(kind, text) {
    const rank = CLASSES.indexOf(kind);
    if (rank < this.rank) {
      this.rank = rank;
      this.text = text;
    }
  }

  raise() {
    if (this.rank < CLASSES.length) throw new Refused(CLASSES[this.rank], this.text);
  }
}
