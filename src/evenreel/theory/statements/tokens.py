"""C.15: shared and frame-specific tokens."""

from evenreel.theory import tokens
from evenreel.theory.measured import Measured, draw
from evenreel.theory.statement import Statement


def _check() -> tuple[Measured, ...]:
    vision, wanted, text, text_wanted = (
        draw(*shape, seed=seed) for seed, shape in enumerate(((8, 4), (8, 6), (3, 6), (3, 6)))
    )
    return (
        tokens.alignment(vision, wanted, text, text_wanted),
        tokens.alignment(vision, wanted, text, text_wanted, mapping=draw(4, 6, seed=9)),
        tokens.few_tokens(),
    )


STATEMENTS = (
    Statement(
        ids=("C.15", "4.15"),
        title="Enough tokens align perfectly",
        claim="With N_s >= d shared and N_u >= d unshared tokens the alignment error can be made 0.",
        hypotheses="shared tokens and the linear map of the unshared ones are free",
        status="false as stated",
        fault="The condition is the wrong way round: one d x d map has to serve every unshared token, so they "
        "must be few. The number of shared tokens does not matter. And the frozen text stays as it is.",
        gist="exactly if rank H = N_u, so N_u <= d; the text part stays",
        truth="min over T, V of |Z - Z*|^2 = |(I - H H^+) U*|^2 + |C - C*|^2. The first part is 0 for every U* "
        "exactly if rank H = N_u, which needs N_u <= d (d + 1 with a bias, where [H 1] stands for H). With "
        "one map for several frames, H holds the tokens of all of them.",
        conditions="Z = [T; H V; C], Z* = [T*; U*; C*]; T and V free, C frozen",
        why="T matches T* at once. H V ranges over all matrices whose columns lie in the column space of H: "
        "least squares. It is everything exactly if H has full row rank.",
        sharp="An identity; of a random U*, the share rank H / N_u is reached on average.",
        meaning="At width d, one linear map can align about d / N_u frames exactly; more frames are fitted, not "
        "matched.",
        design="The earlier derivation looks at one frame; the map is shared by all frames, so the rank of their "
        "tokens together is what counts.",
        counterexample=tokens.many_tokens,
        check=_check,
    ),
)
