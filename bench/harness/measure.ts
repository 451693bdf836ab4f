/** What is measured, and how rounds of it become a figure. */

/** One run of calls. */
export interface Measure {
  /** Calls, or MiB, a second. */
  readonly rate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** How many processor cores were busy, on average, in each process. Undefined if the system does not tell. */
  readonly cores: { readonly load: number; readonly server: number; readonly database: number | undefined };
}

/** Measures of one round by name. */
export type Round = ReadonlyMap<string, Measure>;

/** A promise: one measure's rate is at least so much of another's. */
export interface FigureSpec {
  readonly title: string;
  readonly unit: "calls/s" | "MiB/s";
  readonly subject: string;
  readonly baseline: string;
  readonly atLeast: number;
}

/** A set of figures whose measures are taken in the same rounds. */
export interface Scenario {
  /** What runs in every round, one after the other; in odd rounds from the last to the first. */
  readonly legs: readonly ((seconds: number) => Promise<Round>)[];
  readonly figures: readonly FigureSpec[];
  /** Between rounds, not measured. */
  readonly reset?: () => Promise<void>;
}

/** The middle of some values, and how far they were apart. */
export interface Spread {
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

/** What came of a figure. */
export interface Figure extends FigureSpec {
  readonly subjectRate: Spread;
  readonly baselineRate: Spread;
  /** Of each round's two rates: what slows the machine for a while slows both. */
  readonly ratio: Spread;
  readonly holds: boolean;
  /** Of the round in the middle. */
  readonly subjectMeasure: Measure;
  readonly baselineMeasure: Measure;
}

/** Runs a scenario's rounds, after one that is not counted, and makes its figures. */
export async function runScenario(
  scenario: Scenario,
  options: { readonly rounds: number; readonly seconds: number },
): Promise<readonly Figure[]> {
  await runRound(scenario, 0, options.seconds / 2);
  const rounds: Round[] = [];
  for (let round = 0; round < options.rounds; round++) {
    rounds.push(await runRound(scenario, round, options.seconds));
  }
  return scenario.figures.map((figure) => toFigure(figure, rounds));
}

async function runRound(scenario: Scenario, round: number, seconds: number): Promise<Round> {
  const measures: [string, Measure][] = [];
  for (const leg of round % 2 === 0 ? scenario.legs : scenario.legs.toReversed()) {
    measures.push(...(await leg(seconds)));
  }
  await scenario.reset?.();
  return new Map(measures);
}

function toFigure(spec: FigureSpec, rounds: readonly Round[]): Figure {
  const pairs = rounds.map((round) => {
    const subject = round.get(spec.subject);
    const baseline = round.get(spec.baseline);
    if (subject === undefined || baseline === undefined) {
      throw new Error(`${spec.subject} or ${spec.baseline} was not measured`);
    }
    return { subject, baseline, ratio: subject.rate / baseline.rate };
  });
  const byRatio = pairs.toSorted((a, b) => a.ratio - b.ratio);
  const middle = byRatio[Math.floor(byRatio.length / 2)];
  if (middle === undefined) {
    throw new RangeError("there must be a round");
  }
  const ratio = spreadOf(pairs.map((pair) => pair.ratio));
  return {
    ...spec,
    subjectRate: spreadOf(pairs.map((pair) => pair.subject.rate)),
    baselineRate: spreadOf(pairs.map((pair) => pair.baseline.rate)),
    ratio,
    holds: ratio.median >= spec.atLeast,
    subjectMeasure: middle.subject,
    baselineMeasure: middle.baseline,
  };
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (place: number) => sorted[place] ?? Number.NaN;
  const upper = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? at(upper) : (at(upper - 1) + at(upper)) / 2;
  return { median, lowest: at(0), highest: at(sorted.length - 1) };
}
