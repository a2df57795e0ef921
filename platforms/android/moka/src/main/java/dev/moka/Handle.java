package dev.moka;

import java.lang.ref.PhantomReference;
import java.lang.ref.ReferenceQueue;
import java.util.HashSet;
import java.util.Set;

/**
 * A pointer of native code: it is freed once, by the last who uses it, and never while it is in use.
 *
 * <p>A call is in use from {@link #enter} to {@link #leave}; so is an owner, such as a model, by what was
 * made from it. {@link #close} comes from any thread. An object of Java that is collected without having
 * been closed closes its handle too, which is a net and no plan: it may be late.
 */
final class Handle {
  /** What it points at. The numbers are those in model.cc. */
  enum Kind {
    MEMORY,
    MODEL,
    EXECUTOR,
    SAMPLER,
    SESSION,
    STREAM,
    CHAT;

    final String word = name().toLowerCase(java.util.Locale.ROOT);
  }

  private final Kind kind;
  private final long pointer;
  private final Handle owner;
  private final int features;
  private int users;
  private boolean closed;
  private boolean running;
  private boolean cancelled;
  private Net net;

  /**
   * @param owner kept until this is freed; may be null
   * @param features floats of a step, 0 for tokens; of a session
   */
  Handle(Kind kind, long pointer, Handle owner, int features) {
    this.kind = kind;
    this.pointer = pointer;
    this.owner = owner;
    this.features = features;
    if (owner != null) owner.keep();
  }

  Handle(Kind kind, long pointer, Handle owner) {
    this(kind, pointer, owner, 0);
  }

  /** One call at a time may use it, except for those on models and executors. */
  private boolean exclusive() {
    return kind.compareTo(Kind.EXECUTOR) > 0;
  }

  /** The pointer, which is valid until {@link #leave}. */
  synchronized long enter() {
    if (closed) throw new IllegalStateException("the " + kind.word + " is closed");
    if (exclusive() && users > 0) {
      throw new IllegalStateException(
          "the " + kind.word + " is in use by another call; one thread at a time, and no listener");
    }
    ++users;
    return pointer;
  }

  /** The same for a call that {@link #cancel} and {@link #close} end. */
  synchronized long begin() {
    long entered = enter();
    running = true;
    cancelled = false;
    return entered;
  }

  /** The pointer of an owner, for those that keep it: also when it is closed. */
  long kept() {
    return pointer;
  }

  private synchronized void keep() {
    ++users;
  }

  void leave() {
    boolean last;
    boolean late;
    synchronized (this) {
      late = running && cancelled;
      running = false;
    }
    // The signal may have come when the call had ended; then it would end the next one.
    if (late) absorb();
    synchronized (this) {
      --users;
      last = closed && users == 0;
    }
    if (last) free();
  }

  /** Ends the running call, if there is one. */
  synchronized void cancel() {
    if (!running) return;
    cancelled = true;
    if (kind == Kind.SESSION) {
      Native.sessionCancel(pointer);
    } else {
      Native.chatCancel(pointer);
    }
  }

  private void absorb() {
    if (kind == Kind.SESSION) {
      Native.sessionAbsorb(pointer, features);
    } else {
      Native.chatAbsorb(pointer);
    }
  }

  /** Ends the running call, if there is one; later calls throw. Freed at once, or by who uses it last. */
  void close() {
    Net caught;
    synchronized (this) {
      caught = net;
      net = null;
    }
    if (caught != null) caught.letGo();
    close(true);
  }

  private void close(boolean cancels) {
    boolean last;
    synchronized (this) {
      if (closed) return;
      closed = true;
      last = users == 0;
      if (cancels) cancel();
    }
    if (last) free();
  }

  private void free() {
    switch (kind) {
      case SESSION:
        Native.sessionFree(pointer);
        break;
      case CHAT:
        Native.chatFree(pointer);
        break;
      default:
        Native.free(kind.ordinal(), pointer);
    }
    if (owner != null) owner.leave();
  }

  /** Closes this when `object` is collected. */
  Handle of(Object object) {
    net = new Net(object, this);
    return this;
  }

  /** java.lang.ref.Cleaner is newer than Android 7, so this is one. */
  private static final class Net extends PhantomReference<Object> {
    private static final ReferenceQueue<Object> QUEUE = new ReferenceQueue<>();
    private static final Set<Net> ALL = new HashSet<>();

    static {
      Thread thread =
          new Thread("moka-net") {
            @Override
            public void run() {
              while (true) {
                try {
                  ((Net) QUEUE.remove()).caught();
                } catch (InterruptedException ignored) {
                  // Nobody has a reason to; go on.
                }
              }
            }
          };
      thread.setDaemon(true);
      thread.start();
    }

    private final Handle handle;

    Net(Object object, Handle handle) {
      super(object, QUEUE);
      this.handle = handle;
      synchronized (ALL) {
        ALL.add(this);
      }
    }

    void letGo() {
      clear();
      synchronized (ALL) {
        ALL.remove(this);
      }
    }

    /** A call may still be running whose object nobody can reach any more: it is not cancelled. */
    void caught() {
      letGo();
      handle.close(false);
    }
  }
}
