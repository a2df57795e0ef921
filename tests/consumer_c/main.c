/* Continues a text, always with the likeliest word: consumer_c MODEL TEXT [TOKENS] */
#include <moka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t print(void* user, const char* text, size_t size) {
  (void)user;
  return fwrite(text, 1, size, stdout) == size ? 0 : 1; /* 1 ends the writing */
}

/* Tokenizes the text and reads it. */
static moka_status read_prompt(const moka_model* model, moka_session* session, const char* text,
                               moka_error* error) {
  size_t count = 0;
  moka_status status = moka_model_tokenize(model, text, strlen(text), 0, NULL, 0, &count, error);
  if (status != MOKA_OK) return status;
  moka_token* tokens = malloc((count + 1) * sizeof *tokens);
  if (tokens == NULL) return MOKA_OUT_OF_MEMORY;
  status = moka_model_tokenize(model, text, strlen(text), 0, tokens, count, &count, error);
  if (status == MOKA_OK) status = moka_session_append(session, tokens, count, error);
  free(tokens);
  return status;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s MODEL TEXT [TOKENS]\n", argv[0]);
    return 2;
  }
  moka_error error;
  moka_model* model = NULL;
  moka_session* session = NULL;
  moka_sampler* sampler = NULL;

  moka_generate_options how;
  moka_generate_options_init(&how, sizeof how);
  how.max_tokens = argc > 3 ? strtoull(argv[3], NULL, 10) : 20;
  how.on_text = print;

  moka_status status = moka_model_open(argv[1], NULL, &model, &error);
  moka_sampler_options sampling;
  moka_sampler_options_init(&sampling, sizeof sampling, model);
  sampling.temperature = 0;
  if (status == MOKA_OK) status = moka_session_create(model, NULL, &session, &error);
  if (status == MOKA_OK) status = moka_sampler_create(model, &sampling, &sampler, &error);
  if (status == MOKA_OK) status = read_prompt(model, session, argv[2], &error);
  if (status == MOKA_OK) status = moka_session_generate(session, sampler, &how, NULL, &error);
  if (status == MOKA_OK) {
    printf("\n");
  } else {
    fprintf(stderr, "%s: %s\n", moka_status_name(status), error.message);
  }
  moka_sampler_free(sampler);
  moka_session_free(session);
  moka_model_free(model);
  return status == MOKA_OK ? 0 : 1;
}
