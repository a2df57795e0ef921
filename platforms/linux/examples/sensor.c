/* Watches a sensor: reads a number per line from stdin, and writes a line whenever a value lies
   outside of what the model expected of it one step before, by more than MARGIN.

     sensor MODEL [MARGIN [WARM_UP]] < values

   The model's lowest and highest quantile bound what is expected, after WARM_UP values that are only
   read. Runs without an end in constant memory: one session, no buffers that grow.
   cc -std=c11 sensor.c -o sensor $(pkg-config --cflags --libs moka-c) */
#include <math.h>
#include <moka.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* what, const moka_error* error) {
  fprintf(stderr, "%s: %s\n", what, error->message);
  return 1;
}

int main(int argc, char** argv) {
  if (argc < 2) return fprintf(stderr, "usage: %s MODEL [MARGIN [WARM_UP]]\n", argv[0]), 2;
  const float margin = argc > 2 ? strtof(argv[2], NULL) : 0;
  const unsigned long warm_up = argc > 3 ? strtoul(argv[3], NULL, 10) : 1024;

  moka_error error;
  moka_model* model = NULL;
  if (moka_model_open(argv[1], NULL, &model, &error) != MOKA_OK) return fail(argv[1], &error);
  moka_model_info info = {.struct_size = sizeof info};
  if (moka_model_get_info(model, &info, &error) != MOKA_OK) return fail(argv[1], &error);
  if (info.output != MOKA_OUTPUT_REGRESSION || info.features != 1 || info.forecast_outputs != 1 ||
      info.forecast_quantiles < 2) {
    fprintf(stderr, "%s: no forecaster of one number with quantiles\n", argv[1]);
    return 4;
  }
  moka_session* session = NULL;
  if (moka_session_create(model, NULL, &session, &error) != MOKA_OK) return fail(argv[1], &error);

  char line[256];
  unsigned long number = 0, alarms = 0;
  while (fgets(line, sizeof line, stdin) != NULL) {
    char* end = line;
    const float value = strtof(line, &end);
    if (end == line || !isfinite(value)) continue; /* a heading, an empty line */
    ++number;

    /* What was expected of this value: the first step of the forecast made before it, of which the
       output holds info.forecast_quantiles numbers, lowest first. */
    const float* expected = NULL;
    size_t count = 0;
    if (moka_session_logits(session, &expected, &count, &error) != MOKA_OK)
      return fail("forecast", &error);
    if (count > 0 && number > warm_up) {
      const float low = expected[0] - margin;
      const float high = expected[info.forecast_quantiles - 1] + margin;
      if (value < low || value > high) {
        printf("alarm at %lu: %.3f, expected %.3f to %.3f\n", number, value, low, high);
        fflush(stdout); /* whoever reads it should know now */
        ++alarms;
      }
    }
    if (moka_session_append_values(session, &value, 1, &error) != MOKA_OK)
      return fail("reading a value", &error);
  }
  fprintf(stderr, "%lu values, %lu alarms\n", number, alarms);
  moka_session_free(session);
  moka_model_free(model);
  return ferror(stdin) ? 1 : 0;
}
