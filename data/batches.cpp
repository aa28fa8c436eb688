#include "data/batches.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/check.h"

namespace drystone::data {

namespace {

constexpr std::size_t kMegabatch = 32;  // batches
constexpr std::size_t kMinMegabatches = 4;

std::size_t divide_up(std::size_t value, std::size_t by) { return (value + by - 1) / by; }

std::vector<std::size_t> all_indices(std::size_t count) {
  std::vector<std::size_t> indices(count);
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  return indices;
}

}  // namespace

void fill_batch(const Dataset& dataset, std::span<const std::size_t> examples, text::TokenId pad,
                EncodedBatch& batch) {
  std::size_t width = 0;
  for (const std::size_t example : examples) width = std::max(width, dataset.length(example));
  batch.rows = static_cast<std::int64_t>(examples.size());
  batch.tokens = static_cast<std::int64_t>(width);
  batch.input_ids.assign(examples.size() * width, pad);
  batch.lengths.clear();
  batch.labels.clear();
  batch.targets.clear();
  batch.segments.clear();
  batch.examples.assign(examples.begin(), examples.end());
  const bool is_sequence = !examples.empty() && !dataset.token_labels(examples.front()).empty();
  batch.token_labels.assign(is_sequence ? examples.size() * width : 0, kNoLabel);
  auto row_labels = batch.token_labels.begin();
  batch.type_ids.assign(dataset.has_pairs() ? examples.size() * width : 0, 0);
  auto row_types = batch.type_ids.begin();
  auto row = batch.input_ids.begin();
  for (const std::size_t example : examples) {
    const auto ids = dataset.ids(example);
    std::copy(ids.begin(), ids.end(), row);
    row += static_cast<std::ptrdiff_t>(width);
    if (is_sequence) {
      const auto token_labels = dataset.token_labels(example);
      std::copy(token_labels.begin(), token_labels.end(), row_labels);
      row_labels += static_cast<std::ptrdiff_t>(width);
    }
    if (dataset.has_pairs()) {
      if (const std::size_t second = dataset.second_start(example); second > 0) {
        std::fill(row_types + static_cast<std::ptrdiff_t>(second),
                  row_types + static_cast<std::ptrdiff_t>(ids.size()), 1);
      }
      row_types += static_cast<std::ptrdiff_t>(width);
    }
    batch.lengths.push_back(static_cast<std::int64_t>(ids.size()));
    batch.labels.push_back(dataset.label(example));
    batch.targets.push_back(dataset.target(example));
  }
}

void fill_batch(const Dataset& dataset, const PackedRows& packed, std::span<const std::size_t> rows,
                text::TokenId pad, EncodedBatch& batch) {
  std::size_t width = 0;
  for (const std::size_t row : rows) width = std::max(width, packed.length(row));
  batch.rows = static_cast<std::int64_t>(rows.size());
  batch.tokens = static_cast<std::int64_t>(width);
  batch.input_ids.assign(rows.size() * width, pad);
  batch.token_labels.assign(rows.size() * width, kNoLabel);
  batch.segments.clear();
  batch.type_ids.clear();
  batch.lengths.clear();
  batch.labels.clear();
  batch.targets.clear();
  batch.examples.clear();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto position = static_cast<std::ptrdiff_t>(i * width);
    std::int64_t segment = -1;
    for (const std::size_t example : packed.row(rows[i])) {
      std::ranges::copy(dataset.ids(example), batch.input_ids.begin() + position);
      std::ranges::copy(dataset.token_labels(example), batch.token_labels.begin() + position);
      batch.segments.insert(batch.segments.end(), dataset.length(example), ++segment);
      batch.examples.push_back(example);
      position += static_cast<std::ptrdiff_t>(dataset.length(example));
    }
    batch.segments.resize((i + 1) * width, segment);  // at padding: the last one's
    batch.lengths.push_back(static_cast<std::int64_t>(packed.length(rows[i])));
  }
}

namespace {

/// Rows [begin, end) of `whole`, cut to `width`.
template <typename Value>
std::vector<Value> cut(const std::vector<Value>& whole, std::size_t old_width, std::size_t begin,
                       std::size_t end, std::size_t width) {
  std::vector<Value> part;
  if (whole.empty()) return part;
  part.reserve((end - begin) * width);
  for (std::size_t row = begin; row < end; ++row) {
    const auto first = whole.begin() + static_cast<std::ptrdiff_t>(row * old_width);
    part.insert(part.end(), first, first + static_cast<std::ptrdiff_t>(width));
  }
  return part;
}

/// How many examples lie in the rows before `row`.
std::size_t examples_before(const EncodedBatch& batch, std::size_t row) {
  if (batch.segments.empty()) return row;
  const auto width = static_cast<std::size_t>(batch.tokens);
  std::size_t count = 0;
  for (std::size_t r = 0; r < row; ++r) {
    count += static_cast<std::size_t>(batch.segments[(r + 1) * width - 1]) + 1;
  }
  return count;
}

template <typename Value>
void append(const std::vector<Value>& values, std::vector<Value>& all) {
  all.insert(all.end(), values.begin(), values.end());
}

/// Appends rows of `width` values, zeros where there are none, to rows of `new_width`.
struct Widener {
  std::size_t rows = 0;
  std::size_t width = 0;
  std::size_t new_width = 0;

  /// @param padding  nullopt: each row's last value
  void operator()(const std::vector<std::int64_t>& values, std::optional<std::int64_t> padding,
                  std::vector<std::int64_t>& all) const {
    if (values.empty()) return all.resize(all.size() + rows * new_width, 0);
    for (std::size_t row = 0; row < rows; ++row) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>(row * width);
      const auto end = first + static_cast<std::ptrdiff_t>(width);
      all.insert(all.end(), first, end);
      all.resize(all.size() + new_width - width, padding.value_or(*(end - 1)));
    }
  }
};

EncodedBatch part_of(const EncodedBatch& batch, std::size_t begin, std::size_t end) {
  const auto old_width = static_cast<std::size_t>(batch.tokens);
  const auto lengths = std::span(batch.lengths).subspan(begin, end - begin);
  const auto width = static_cast<std::size_t>(std::ranges::max(lengths));
  const auto of_rows = [&](const auto& values) { return cut(values, 1, begin, end, 1); };
  const auto examples = std::span(batch.examples)
                            .subspan(examples_before(batch, begin),
                                     examples_before(batch, end) - examples_before(batch, begin));
  return {.rows = static_cast<std::int64_t>(end - begin),
          .tokens = static_cast<std::int64_t>(width),
          .input_ids = cut(batch.input_ids, old_width, begin, end, width),
          .lengths = {lengths.begin(), lengths.end()},
          .labels = of_rows(batch.labels),
          .targets = of_rows(batch.targets),
          .type_ids = cut(batch.type_ids, old_width, begin, end, width),
          .token_labels = cut(batch.token_labels, old_width, begin, end, width),
          .segments = cut(batch.segments, old_width, begin, end, width),
          .examples = {examples.begin(), examples.end()}};
}

}  // namespace

std::vector<EncodedBatch> split_rows(EncodedBatch batch, std::int64_t max_tokens) {
  core::require(max_tokens >= 0, "split_rows: a negative number of tokens");
  std::vector<EncodedBatch> parts;
  if (max_tokens == 0 || batch.rows * batch.tokens <= max_tokens) {
    parts.push_back(std::move(batch));
    return parts;
  }
  const auto rows = static_cast<std::size_t>(batch.rows);
  for (std::size_t begin = 0; begin < rows;) {
    std::size_t end = begin + 1;
    std::int64_t width = batch.lengths[begin];
    for (; end < rows; ++end) {
      const std::int64_t wider = std::max(width, batch.lengths[end]);
      if (wider * static_cast<std::int64_t>(end + 1 - begin) > max_tokens) break;
      width = wider;
    }
    parts.push_back(part_of(batch, begin, end));
    begin = end;
  }
  return parts;
}

EncodedBatch join_rows(std::span<const EncodedBatch* const> batches, text::TokenId pad) {
  const auto any_has = [&](auto field) {
    return std::ranges::any_of(batches,
                               [&](const auto* batch) { return !(batch->*field).empty(); });
  };
  const bool has_types = any_has(&EncodedBatch::type_ids);
  const bool has_segments = any_has(&EncodedBatch::segments);
  EncodedBatch joined;
  for (const EncodedBatch* const batch : batches) {
    joined.rows += batch->rows;
    joined.tokens = std::max(joined.tokens, batch->tokens);
  }
  for (const EncodedBatch* const batch : batches) {
    const Widener widen{.rows = static_cast<std::size_t>(batch->rows),
                        .width = static_cast<std::size_t>(batch->tokens),
                        .new_width = static_cast<std::size_t>(joined.tokens)};
    widen(batch->input_ids, pad, joined.input_ids);
    if (has_types) widen(batch->type_ids, 0, joined.type_ids);
    if (has_segments) widen(batch->segments, std::nullopt, joined.segments);
    if (!batch->token_labels.empty()) widen(batch->token_labels, kNoLabel, joined.token_labels);
    append(batch->lengths, joined.lengths);
    append(batch->labels, joined.labels);
    append(batch->targets, joined.targets);
    append(batch->examples, joined.examples);
  }
  return joined;
}

TrainingBatches::TrainingBatches(const Dataset& dataset, const BatchOptions& options,
                                 const core::StreamKey& key)
    : dataset_(dataset), options_(options), random_(key) {
  core::require(!dataset.empty(), "TrainingBatches: no examples");
  core::require(options.batch_size >= 1, "TrainingBatches: batch_size must be at least 1");
  core::require(options.epochs >= 0 && options.max_batches >= 0 && options.pack_to >= 0,
                "TrainingBatches: epochs, max_batches and pack_to must not be negative");
  if (options.pack_to > 0) packed_ = pack_rows(dataset, options.pack_to);
}

std::int64_t TrainingBatches::per_epoch() const {
  return static_cast<std::int64_t>(
      divide_up(num_rows(), static_cast<std::size_t>(options_.batch_size)));
}

std::optional<std::int64_t> TrainingBatches::total() const {
  const std::int64_t by_epochs = options_.epochs * per_epoch();
  if (options_.max_batches == 0 && options_.epochs == 0) return std::nullopt;
  if (options_.max_batches == 0) return by_epochs;
  return options_.epochs == 0 ? options_.max_batches : std::min(by_epochs, options_.max_batches);
}

void TrainingBatches::start_epoch() {
  const auto batch_size = static_cast<std::size_t>(options_.batch_size);
  const std::size_t num_batches = divide_up(num_rows(), batch_size);
  order_ = all_indices(num_rows());
  core::shuffle(order_, random_);
  const std::size_t megabatch =
      batch_size * std::clamp(num_batches / kMinMegabatches, std::size_t{1}, kMegabatch);
  for (std::size_t begin = 0; begin < order_.size(); begin += megabatch) {
    const std::size_t end = std::min(begin + megabatch, order_.size());
    std::stable_sort(order_.begin() + static_cast<std::ptrdiff_t>(begin),
                     order_.begin() + static_cast<std::ptrdiff_t>(end),
                     [this](std::size_t a, std::size_t b) { return length(a) > length(b); });
  }
  starts_.resize(num_batches);
  for (std::size_t i = 0; i < num_batches; ++i) starts_[i] = i * batch_size;
  core::shuffle(starts_, random_);
  next_start_ = 0;
}

bool TrainingBatches::next(EncodedBatch& batch) {
  if (const auto limit = total(); limit && given_ >= *limit) return false;
  if (next_start_ == starts_.size()) start_epoch();
  const std::size_t begin = starts_[next_start_++];
  const std::size_t count =
      std::min(static_cast<std::size_t>(options_.batch_size), order_.size() - begin);
  const auto rows = std::span(order_).subspan(begin, count);
  if (packed_) {
    fill_batch(dataset_, *packed_, rows, options_.pad, batch);
  } else {
    fill_batch(dataset_, rows, options_.pad, batch);
  }
  ++given_;
  return true;
}

EvaluationBatches::EvaluationBatches(const Dataset& dataset, std::int64_t batch_size,
                                     text::TokenId pad)
    : dataset_(dataset),
      batch_size_(static_cast<std::size_t>(batch_size)),
      pad_(pad),
      order_(all_indices(dataset.size())) {
  core::require(batch_size >= 1, "EvaluationBatches: batch_size must be at least 1");
  std::stable_sort(order_.begin(), order_.end(), [&dataset](std::size_t a, std::size_t b) {
    return dataset.length(a) > dataset.length(b);
  });
}

std::int64_t EvaluationBatches::total() const {
  return static_cast<std::int64_t>(divide_up(order_.size(), batch_size_));
}

bool EvaluationBatches::next(EncodedBatch& batch) {
  if (position_ >= order_.size()) return false;
  const std::size_t count = std::min(batch_size_, order_.size() - position_);
  fill_batch(dataset_, std::span(order_).subspan(position_, count), pad_, batch);
  position_ += count;
  return true;
}

}  // namespace drystone::data
