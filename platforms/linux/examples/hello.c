/* Writes how a text goes on: hello MODEL [TEXT]
   cc -std=c11 hello.c -o hello $(pkg-config --cflags --libs moka-c) */
#include <moka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t print(void* user, const char* text, size_t size) {
  (void)user;
  return fwrite(text, 1, size, stdout) == size ? 0 : 1; /* 1 ends the writing */
}

int main(int argc, char** argv) {
  if (argc < 2) return fprintf(stderr, "usage: %s MODEL [TEXT]\n", argv[0]), 2;
  const char* text = argc > 2 ? argv[2] : "Once upon a time";
  moka_token tokens[256];
  size_t count = 0;
  moka_error error;
  moka_model* model = NULL;
  moka_session* session = NULL;
  moka_sampler* sampler = NULL;

  moka_status status = moka_model_open(argv[1], NULL, &model, &error);
  moka_sampler_options sampling;
  moka_sampler_options_init(&sampling, sizeof sampling, model); /* as its author recommends */
  sampling.seed = 1;
  moka_generate_options how;
  moka_generate_options_init(&how, sizeof how);
  how.max_tokens = 40;
  how.on_text = print;

  if (status == MOKA_OK)
    status = moka_model_tokenize(model, text, strlen(text), 0, tokens, 256, &count, &error);
  if (status == MOKA_OK) status = moka_session_create(model, NULL, &session, &error);
  if (status == MOKA_OK) status = moka_sampler_create(model, &sampling, &sampler, &error);
  if (status == MOKA_OK) status = moka_session_append(session, tokens, count, &error);
  if (status == MOKA_OK) {
    printf("%s", text);
    status = moka_session_generate(session, sampler, &how, NULL, &error);
    printf("\n");
  }
  if (status != MOKA_OK) fprintf(stderr, "%s: %s\n", moka_status_name(status), error.message);
  moka_sampler_free(sampler);
  moka_session_free(session);
  moka_model_free(model);
  return status == MOKA_OK ? 0 : 1;
}
