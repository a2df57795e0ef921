package android.os;

/** To compile the sample without Android. */
public class Bundle {}
