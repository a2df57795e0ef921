package android.widget;

import android.view.View;

/** The part of Android's class that the sample uses, to compile it without Android. */
public class TextView extends View {
  public final void setText(CharSequence text) {}

  public final void append(CharSequence text) {}

  public CharSequence getText() {
    return "";
  }
}
