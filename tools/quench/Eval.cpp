//===- Eval.cpp - quench eval -----------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Analysis/Eval.h"
#include "CalibrationFlags.h"
#include "Driver.h"
#include "LanguageModel.h"
#include "ReferenceLogits.h"
#include "quench/Support/Progress.h"
#include "quench/Tokenizer/Texts.h"
#include "llvm/Support/raw_ostream.h"
#include <thread>

using namespace llvm;
using namespace quench;

static cl::SubCommand
    options("eval", "Perplexity of a language model, and its distance to a "
                    "reference; for an encoder, that of embeddings");

static cl::opt<std::string> modelPath(cl::Positional, cl::desc("OUT"),
                                      cl::sub(options));
static cl::opt<std::string>
    dataPath("data", cl::value_desc("FILE"), cl::sub(options),
             cl::desc("Token ids (.npy) or a text (any other name)"));
static cl::opt<std::string>
    tokenizerPath("tokenizer", cl::value_desc("FILE"), cl::sub(options),
                  cl::desc("A Hugging Face tokenizer.json; by default the one "
                           "next to the model"));
static NumberOption<int64_t>
    context("context", cl::init(512), cl::value_desc("N"), cl::sub(options),
            cl::desc("Tokens of a window (default 512); "
                     "the second half is scored"));
static NumberOption<int64_t>
    windowCount("windows", cl::init(0), cl::value_desc("N"), cl::sub(options),
                cl::desc("The most windows; by default "
                         "all"));
static cl::opt<std::string>
    referencePath("reference", cl::value_desc("MODEL"), cl::sub(options),
                  cl::desc("Compare with this ONNX model, run by the "
                           "reference interpreter, or this compiled one"));
static cl::opt<std::string>
    cachePath("reference-cache", cl::value_desc("FILE"), cl::sub(options),
              cl::desc("Keep the reference's logits in this file, and read "
                       "them there the next time"));
static cl::opt<bool>
    interpret("interpret", cl::sub(options),
              cl::desc("OUT is an ONNX model: run it by the reference "
                       "interpreter"));
static cl::opt<std::string> recipe("recipe", cl::value_desc("NAME|FILE"),
                                   cl::sub(options),
                                   cl::desc("With --interpret: apply this "
                                            "recipe first"));
static CalibrationFlags calibration(options);
static NumberOption<int> threads("threads", cl::init(0), cl::value_desc("N"),
                                 cl::sub(options),
                                 cl::desc("Threads; by default one per "
                                          "processor"));
static cl::opt<bool> asJSON("json", cl::sub(options),
                            cl::desc("Print one JSON object"));

static Expected<std::unique_ptr<LanguageModel>> openAny(StringRef path) {
  if (path.ends_with_insensitive(".onnx"))
    return LanguageModel::openInterpreted(path, "", {});
  return LanguageModel::openCompiled(path, threads, 0, context);
}

/// The windows of all rows; rows that are shorter than one are left out.
static Expected<std::vector<ArrayRef<int64_t>>>
cutWindows(const TokenRows &data) {
  std::vector<ArrayRef<int64_t>> windows;
  std::string reason;
  for (const std::vector<int64_t> &row : data.rows) {
    int64_t left = windowCount ? windowCount - windows.size() : 0;
    if (windowCount && left <= 0)
      break;
    Expected<SmallVector<ArrayRef<int64_t>>> found =
        evaluationWindows(row, context, left);
    if (!found) {
      reason = toString(found.takeError());
      continue;
    }
    windows.insert(windows.end(), found->begin(), found->end());
  }
  if (windows.empty())
    return createStringError("'" + dataPath +
                             "': " + (reason.empty() ? "no tokens" : reason));
  return windows;
}

static HostTensor viewLogits(std::vector<float> &logits, int64_t tokens) {
  int64_t vocabulary = logits.size() / tokens;
  return HostTensor::view(ElementKind::F32, {tokens, vocabulary}, logits.data(),
                          nullptr);
}

static void print(const Evaluation &result, double seconds) {
  if (asJSON) {
    json::Object object{{"perplexity", result.perplexity()},
                        {"loss", result.loss()},
                        {"tokens", result.tokens()},
                        {"windows", result.windows()},
                        {"context", static_cast<int64_t>(context)},
                        {"seconds", seconds}};
    if (result.hasReference()) {
      object["kl"] = result.divergence();
      object["top1"] = result.agreement();
      object["reference_perplexity"] = result.referencePerplexity();
    } else {
      object["kl"] = nullptr;
      object["top1"] = nullptr;
    }
    printJSON(std::move(object));
    return;
  }
  raw_ostream &out = outs();
  out << formatted("perplexity     %.4f\n", result.perplexity());
  if (result.hasReference()) {
    out << formatted("reference      %.4f\n", result.referencePerplexity());
    out << formatted("KL divergence  %.6f nats\n", result.divergence());
    out << formatted("same top token %.2f %%\n", 100 * result.agreement());
  }
  out << "tokens scored  " << result.tokens() << " in " << result.windows()
      << " windows of " << context << '\n';
}

/// The texts of an encoder: lines, or rows of ids, cut to --context tokens as
/// calibration cuts them.
static Expected<TokenRows> readSentences(TokenRows data) {
  if (!StringRef(dataPath).ends_with_insensitive(".npy")) {
    Expected<std::string> text = readText(dataPath);
    if (!text)
      return text.takeError();
    Expected<Tokenizer> tokenizer =
        openTokenizer(tokenizerPath, modelPath, "a text to evaluate on");
    if (!tokenizer)
      return tokenizer.takeError();
    data = tokenize(*tokenizer, *text, /*byLine=*/true);
  }
  if (windowCount && windowCount < static_cast<int64_t>(data.rows.size()))
    data.rows.resize(windowCount);
  for (std::vector<int64_t> &row : data.rows)
    if (static_cast<int64_t>(row.size()) > context) {
      row[context - 1] = row.back(); // it ends a sentence
      row.resize(context);
    }
  if (data.rows.empty())
    return createStringError("'" + dataPath + "' has no sentence");
  return data;
}

/// Cosines of the embeddings of a model and its reference.
static Error evaluateEncoder(LanguageModel &model, TokenRows data,
                             Progress &progress) {
  if (referencePath.empty() || !cachePath.empty())
    return createStringError(
        "'" + modelPath +
        "' is an encoder: its embeddings are compared with those of "
        "--reference MODEL, without --reference-cache");
  Expected<TokenRows> sentences = readSentences(std::move(data));
  if (!sentences)
    return sentences.takeError();
  Expected<std::unique_ptr<LanguageModel>> reference = openAny(referencePath);
  if (!reference)
    return reference.takeError();
  if (!(*reference)->isEncoder())
    return createStringError("'" + referencePath + "' is no encoder, '" +
                             modelPath + "' is one");
  Stopwatch watch;
  double sum = 0, least = 1;
  int64_t tokens = 0, count = sentences->rows.size();
  std::vector<double> ours, theirs;
  for (auto [i, row] : enumerate(sentences->rows)) {
    progress.update("evaluate", "sentence " + std::to_string(i + 1), i, count);
    if (Error error = model.textEmbedding(row, ours))
      return error;
    if (Error error = (*reference)->textEmbedding(row, theirs))
      return error;
    if (ours.size() != theirs.size())
      return createStringError("an embedding of '" + modelPath + "' has " +
                               Twine(ours.size()) + " numbers, one of '" +
                               referencePath + "' " + Twine(theirs.size()));
    double cosine = 0;
    for (size_t j = 0; j < ours.size(); ++j)
      cosine += ours[j] * theirs[j];
    sum += cosine;
    least = std::min(least, cosine);
    tokens += row.size();
  }
  progress.finish();
  if (asJSON) {
    printJSON(json::Object{{"cosine", sum / count},
                           {"least_cosine", least},
                           {"sentences", count},
                           {"tokens", tokens},
                           {"seconds", watch.seconds()}});
    return Error::success();
  }
  outs() << formatted("cosine         %.6f\n", sum / count)
         << formatted("least cosine   %.6f\n", least) << "sentences      "
         << count << ", " << tokens << " tokens\n";
  return Error::success();
}

static Error evaluate() {
  Expected<TokenRows> data = readTokens(dataPath, tokenizerPath, modelPath);
  if (!data)
    return data.takeError();
  Progress progress;
  progress.update("open", modelPath, 0, 0);
  CalibrationOptions calibrating = calibration.options();
  calibrating.data.tokenizer = tokenizerPath;
  calibrating.threads = threads
                            ? int(threads)
                            : std::max(1u, std::thread::hardware_concurrency());
  calibrating.progress = [&](StringRef step, StringRef name, int64_t done,
                             int64_t total) {
    progress.update(step, name, done, total);
  };
  Expected<std::unique_ptr<LanguageModel>> model =
      interpret ? LanguageModel::openInterpreted(modelPath, recipe, calibrating)
                : LanguageModel::openCompiled(modelPath, threads, 0, context);
  if (!model)
    return model.takeError();
  if ((*model)->isEncoder())
    return evaluateEncoder(**model, std::move(*data), progress);
  Expected<std::vector<ArrayRef<int64_t>>> windows = cutWindows(*data);
  if (!windows)
    return windows.takeError();
  if (int64_t room = (*model)->capacity(); room && room < context)
    return createStringError("'" + modelPath + "' holds " + Twine(room) +
                             " positions, fewer than a window of --context " +
                             Twine(context));

  std::unique_ptr<ReferenceLogits> reference;
  if (!referencePath.empty()) {
    progress.update("open", referencePath, 0, 0);
    Expected<std::unique_ptr<ReferenceLogits>> opened =
        ReferenceLogits::open(referencePath, cachePath, *windows,
                              [] { return openAny(referencePath); });
    if (!opened)
      return opened.takeError();
    reference = std::move(*opened);
  }

  Stopwatch watch;
  Evaluation result;
  std::vector<float> logits, referenceLogits;
  for (auto [i, window] : enumerate(*windows)) {
    progress.update("evaluate", "window " + std::to_string(i + 1), i,
                    windows->size());
    int64_t count = window.size();
    if (Error error = (*model)->textLogits(window, logits))
      return error;
    HostTensor tensor = viewLogits(logits, count), referenceTensor;
    if (reference) {
      if (Error error = reference->window(i, referenceLogits))
        return error;
      referenceTensor = viewLogits(referenceLogits, count);
    }
    if (Error error = result.addWindow(window, tensor,
                                       reference ? &referenceTensor : nullptr))
      return error;
  }
  progress.update("evaluate", "", windows->size(), windows->size());
  if (reference)
    if (Error error = reference->finish())
      return error;
  progress.finish();
  print(result, watch.seconds());
  return Error::success();
}

static int run() {
  if (modelPath.empty())
    return wrongUsage(evalCommand, "the model's file is missing");
  if (dataPath.empty())
    return wrongUsage(evalCommand, "--data FILE is missing");
  if (context < 4)
    return wrongUsage(evalCommand, "--context is at least 4");
  if (windowCount < 0 || threads < 0)
    return wrongUsage(evalCommand, "--windows and --threads are not negative");
  if (!recipe.empty() && !interpret)
    return wrongUsage(evalCommand, "--recipe needs --interpret; a compiled "
                                   "model has its recipe");
  if (std::string wrong = calibration.check(); !wrong.empty())
    return wrongUsage(evalCommand, wrong);
  if (calibration.isGiven() && recipe.empty())
    return wrongUsage(evalCommand, "--calib needs --interpret and --recipe");
  if (!cachePath.empty() && referencePath.empty())
    return wrongUsage(evalCommand, "--reference-cache needs --reference");
  if (Error error = evaluate())
    return fail(std::move(error));
  return Done;
}

static std::string notes() {
  return "\nThe data are cut into windows of --context tokens, and each window "
         "is a text of its\nown. Positions from the middle on to the last but "
         "one are scored against the token\nthat follows. An .npy matrix has "
         "a text in each row.\n\nOf an encoder, a model whose output is called "
         "an embedding or a hidden state, each\nline of a text is a sentence, "
         "cut to --context tokens; --windows is the most\nsentences. Its "
         "embedding is the mean of the vectors of its tokens; printed are\nthe "
         "mean and the least cosine to the embedding of --reference.\n\nJSON "
         "keys: perplexity, loss (nats a token), "
         "tokens (scored), windows, context,\nseconds; kl (nats), top1 (0 to "
         "1) and reference_perplexity with --reference (kl and\ntop1 are null "
         "without). Of an encoder: cosine, least_cosine, sentences, tokens, "
         "seconds.\n\nExamples:\n\n"
         "  quench eval model.so --data text.txt --windows 16\n"
         "  quench eval model.so --data ids.npy --reference model.onnx "
         "--json\n"
         "  quench eval model.onnx --interpret --recipe w4 --data text.txt\n";
}

const Command quench::evalCommand = {
    options, "OUT --data FILE [--reference MODEL] [OPTION...]", notes, run};
