package android.widget;

/** To compile the sample without Android. */
public class EditText extends TextView {}
