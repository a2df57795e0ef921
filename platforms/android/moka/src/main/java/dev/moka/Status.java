package dev.moka;

/** Why a call failed: the codes of moka.h. */
public enum Status {
  /** Something was passed that can never work. */
  INVALID_ARGUMENT(1),
  /** No such file, turn, ... */
  NOT_FOUND(2),
  /** The operating system failed to read or write. */
  IO(3),
  /** The bytes are not what they claim to be. */
  CORRUPT(4),
  /** A format version that this library does not know. */
  VERSION(5),
  /** Valid, but not for this build or this model. */
  UNSUPPORTED(6),
  OUT_OF_MEMORY(7),
  /** An index, position or size beyond its bound. */
  OUT_OF_RANGE(8),
  /** The right call at the wrong moment. */
  FAILED_PRECONDITION(9),
  /** By cancel(), or by a listener. */
  CANCELLED(10),
  /** A defect of Moka. */
  INTERNAL(11),
  /** A code that is newer than these classes. */
  UNKNOWN(-1);

  /** The number in moka.h. */
  public final int code;

  Status(int code) {
    this.code = code;
  }

  static Status of(int code) {
    for (Status status : values()) {
      if (status.code == code) return status;
    }
    return UNKNOWN;
  }
}
