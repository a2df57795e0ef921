package dev.moka;

/**
 * What a call throws that fails, one subclass for each {@link Status}. The message is for people: it
 * names the file, part or argument, the value found and what would be right. Branch on the class or the
 * status, never on words.
 *
 * <p>A closed object, and one that another call is using, is an {@link IllegalStateException} instead.
 */
public class MokaException extends RuntimeException {
  private static final long serialVersionUID = 1;
  private final Status status;

  MokaException(Status status, String message) {
    super(message);
    this.status = status;
  }

  public final Status status() {
    return status;
  }

  /** The exception of a code of moka.h. */
  static MokaException of(int code, String message) {
    Status status = Status.of(code);
    switch (status) {
      case INVALID_ARGUMENT:
        return new InvalidArgument(message);
      case NOT_FOUND:
        return new NotFound(message);
      case IO:
        return new Io(message);
      case CORRUPT:
        return new Corrupt(message);
      case VERSION:
        return new Version(message);
      case UNSUPPORTED:
        return new Unsupported(message);
      case OUT_OF_MEMORY:
        return new OutOfMemory(message);
      case OUT_OF_RANGE:
        return new OutOfRange(message);
      case FAILED_PRECONDITION:
        return new FailedPrecondition(message);
      case CANCELLED:
        return new Cancelled(message);
      case INTERNAL:
        return new Internal(message);
      default:
        return new MokaException(status, message + " (code " + code + ")");
    }
  }

  /** Something was passed that can never work. */
  public static final class InvalidArgument extends MokaException {
    private static final long serialVersionUID = 1;

    InvalidArgument(String message) {
      super(Status.INVALID_ARGUMENT, message);
    }
  }

  /** No such file, turn, ... */
  public static final class NotFound extends MokaException {
    private static final long serialVersionUID = 1;

    NotFound(String message) {
      super(Status.NOT_FOUND, message);
    }
  }

  /** The operating system failed to read or write. */
  public static final class Io extends MokaException {
    private static final long serialVersionUID = 1;

    Io(String message) {
      super(Status.IO, message);
    }
  }

  /** The bytes are not what they claim to be. */
  public static final class Corrupt extends MokaException {
    private static final long serialVersionUID = 1;

    Corrupt(String message) {
      super(Status.CORRUPT, message);
    }
  }

  /** A format version that this library does not know. */
  public static final class Version extends MokaException {
    private static final long serialVersionUID = 1;

    Version(String message) {
      super(Status.VERSION, message);
    }
  }

  /** Valid, but not for this build or this model. */
  public static final class Unsupported extends MokaException {
    private static final long serialVersionUID = 1;

    Unsupported(String message) {
      super(Status.UNSUPPORTED, message);
    }
  }

  /** No memory for what the call needs; nothing was changed. */
  public static final class OutOfMemory extends MokaException {
    private static final long serialVersionUID = 1;

    OutOfMemory(String message) {
      super(Status.OUT_OF_MEMORY, message);
    }
  }

  /** An index, position or size beyond its bound. */
  public static final class OutOfRange extends MokaException {
    private static final long serialVersionUID = 1;

    OutOfRange(String message) {
      super(Status.OUT_OF_RANGE, message);
    }
  }

  /** The right call at the wrong moment. */
  public static final class FailedPrecondition extends MokaException {
    private static final long serialVersionUID = 1;

    FailedPrecondition(String message) {
      super(Status.FAILED_PRECONDITION, message);
    }
  }

  /** Ended by cancel(), by close(), or by a listener. */
  public static final class Cancelled extends MokaException {
    private static final long serialVersionUID = 1;

    Cancelled(String message) {
      super(Status.CANCELLED, message);
    }
  }

  /** A defect of Moka. */
  public static final class Internal extends MokaException {
    private static final long serialVersionUID = 1;

    Internal(String message) {
      super(Status.INTERNAL, message);
    }
  }
}
