package dev.moka;

import java.util.ArrayList;
import java.util.List;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.Result;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/** Runs test classes by name and says how many passed in a line that cmake/setup.sh reads. */
public final class Run {
  private Run() {}

  public static void main(String[] names) throws ClassNotFoundException {
    List<Class<?>> classes = new ArrayList<>();
    for (String name : names) classes.add(Class.forName("dev.moka." + name));
    JUnitCore core = new JUnitCore();
    core.addListener(
        new RunListener() {
          @Override
          public void testFinished(Description test) {
            System.out.println(test.getDisplayName());
          }

          @Override
          public void testFailure(Failure failure) {
            System.out.println("FAILED: " + failure.getTestHeader() + "\n" + failure.getTrimmedTrace());
          }

          @Override
          public void testAssumptionFailure(Failure failure) {
            System.out.println("skipped: " + failure.getTestHeader() + ": " + failure.getMessage());
          }
        });
    Result result = core.run(classes.toArray(new Class<?>[0]));
    int skipped = result.getIgnoreCount() + result.getAssumptionFailureCount();
    int passed = result.getRunCount() - result.getFailureCount() - result.getAssumptionFailureCount();
    System.out.printf(
        "%d skipped\ntest cases: %d | %d passed | %d failed%n",
        skipped, passed + result.getFailureCount(), passed, result.getFailureCount());
    System.exit(result.wasSuccessful() && passed > 0 ? 0 : 1);
  }
}
