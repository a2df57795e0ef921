// The layout of a model: what it reads and what it gives out.
#include <iterator>

#include "converter/latte_layout_builder.h"

namespace moka {

// Projections of numbers stay float32: they are small, and every number passes through them.
Input LayoutBuilder::input() {
  const uint32_t d = config_.width;
  const auto projection = [&](uint32_t features) {
    return Linear{floats("embed.weight", {d, features}), floats("embed.bias", {d})};
  };
  switch (config_.input) {
    case LatteInput::kValues: {
      FloatInput values;
      values.features = config_.features;
      values.projection = projection(config_.features);
      values.mean = config_.input_mean;
      values.deviation = config_.input_deviation;
      return values;
    }
    case LatteInput::kPixels: {
      PixelDenseInput pixels;
      pixels.width = config_.image_width;
      pixels.height = config_.image_height;
      pixels.projection = projection(1);
      pixels.mean = config_.input_mean.front();
      pixels.deviation = config_.input_deviation.front();
      return pixels;
    }
    case LatteInput::kPixelsConv: return conv_input();
    default: {
      TokenInput tokens;
      tokens.vocab_size = config_.vocab_size;
      tokens.table = matrix("embed.weight", config_.vocab_size, d);
      tokens.image_width = config_.image_width;
      tokens.image_height = config_.image_height;
      return tokens;
    }
  }
}

PixelConvInput LayoutBuilder::conv_input() {
  PixelConvInput input;
  input.width = config_.image_width;
  input.height = config_.image_height;
  input.mean = config_.input_mean.front();
  input.deviation = config_.input_deviation.front();
  std::vector<uint32_t> channels = {1};
  channels.insert(channels.end(), std::begin(kConvChannels), std::end(kConvChannels));
  channels.push_back(config_.width);
  for (size_t i = 0; i + 1 < channels.size(); ++i) {
    const std::string name = "embed.conv." + std::to_string(i);
    input.kernels.push_back(floats(name + ".weight", {channels[i + 1], 3, 3, channels[i]}));
    input.biases.push_back(floats(name + ".bias", {channels[i + 1]}));
  }
  input.norm.kind = NormKind::kLayerNorm;  // whatever the blocks have
  input.norm.scale = floats("embed.norm.weight", {config_.width});
  input.norm.bias = floats("embed.norm.bias", {config_.width});
  return input;
}

Positions LayoutBuilder::positions() {
  Positions positions = config_.positions;
  if (positions.kind == PositionKind::kLearned) {
    positions.table = floats("embed_positions.weight", {positions.max_length, config_.width});
  }
  return positions;
}

Head LayoutBuilder::head() {
  const uint32_t d = config_.width;
  switch (config_.head) {
    case LatteOutput::kClassifier: {
      ClassifierHead head;
      head.pooling = config_.pooling;
      head.pad_id = config_.pad_id;
      head.projection = linear("head", config_.classes, d, true);
      head.labels = config_.labels;
      return head;
    }
    case LatteOutput::kPair: {
      PairHead head;
      head.pooling = config_.pooling;
      head.pad_id = config_.pad_id;
      head.hidden = linear("hidden", d, 4 * d, true);
      head.projection = linear("head", config_.classes, d, true);
      head.labels = config_.labels;
      return head;
    }
    case LatteOutput::kRegression: {
      RegressionHead head;
      head.projection = linear("head", config_.row_numbers(), d, true);
      head.outputs = config_.outputs;
      head.steps = config_.forecast_steps;
      head.quantiles = config_.quantiles;
      head.mean = config_.output_mean;
      head.deviation = config_.output_deviation;
      return head;
    }
    case LatteOutput::kEmbedding: {
      EmbeddingHead head;
      head.pooling = config_.pooling;
      head.pad_id = config_.pad_id;
      head.unit_length = config_.unit_length;
      return head;
    }
    case LatteOutput::kNone: return std::monostate();
    default: break;
  }
  LanguageHead head;
  const auto* tokens = std::get_if<TokenInput>(&layout_.spec.input);
  head.projection.weight = config_.tied && tokens != nullptr
                               ? tokens->table
                               : matrix("head.weight", config_.vocab_size, d);
  if (config_.head_bias) head.projection.bias = floats("head.bias", {config_.vocab_size});
  return head;
}

}  // namespace moka
