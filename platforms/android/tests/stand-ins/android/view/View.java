package android.view;

/** The part of Android's class that the sample uses, to compile it without Android. */
public class View {
  /** As Android's. */
  public interface OnClickListener {
    void onClick(View view);
  }

  public void setOnClickListener(OnClickListener listener) {}
}
