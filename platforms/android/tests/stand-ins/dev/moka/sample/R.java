package dev.moka.sample;

/** What Android's build makes of the sample's resources; ReadmeTest looks for them there. */
public final class R {
  /** Views. */
  public static final class id {
    public static final int story = 1;
    public static final int prompt = 2;
    public static final int write = 3;
    public static final int stop = 4;
    public static final int undo = 5;
  }

  /** Layouts. */
  public static final class layout {
    public static final int story = 1;
  }
}
