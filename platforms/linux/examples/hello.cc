// Writes how a text goes on: hello MODEL [TEXT]
// c++ -std=c++17 hello.cc -o hello $(pkg-config --cflags --libs moka)
#include <moka/moka.h>

#include <iostream>
#include <string>
#include <vector>

static int fail(const moka::Status& status) {
  std::cerr << status.to_string() << "\n";
  return 1;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: hello MODEL [TEXT]\n";
    return 2;
  }
  const std::string prompt = argc > 2 ? argv[2] : "Once upon a time";
  auto model = moka::Model::open(argv[1]);
  if (!model.ok()) return fail(model.status());
  if (!model.value().has_tokenizer()) {
    return fail({moka::StatusCode::kUnsupported, std::string(argv[1]) + " reads no text"});
  }
  std::vector<moka::TokenId> tokens;
  if (auto status = model.value().tokenizer().encode(prompt, &tokens); !status.ok()) {
    return fail(status);
  }
  auto session = model.value().new_session();
  if (!session.ok()) return fail(session.status());
  if (auto status = session.value().append(tokens); !status.ok()) return fail(status);

  moka::SamplerOptions options = model.value().info().sampling;  // as its author recommends
  options.seed = 1;
  auto sampler = moka::Sampler::create(options, model.value().info().vocab_size);
  if (!sampler.ok()) return fail(sampler.status());
  moka::TextStream text(model.value().tokenizer());  // whole characters only
  std::cout << prompt;
  for (int i = 0; i < 40; ++i) {
    auto token = session.value().step(sampler.value());
    if (!token.ok()) return fail(token.status());
    std::cout << text.push(token.value()) << std::flush;
  }
  std::cout << text.finish() << "\n";
}
