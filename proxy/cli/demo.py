"""`backstay demo`: see it work, with embedded servers and links that are cut every few seconds."""

import sys

import click

ONCE_S = 20.0


@click.command()
@click.option("--once", is_flag=True, help=f"Run for {ONCE_S:.0f} s and say how it went.")
@click.option("--seconds", type=click.FloatRange(min=1), help="Run for so long instead.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of all chance.")
@click.option(
    "--cut-every",
    type=click.FloatRange(min=0.1),
    help="Seconds between two strikes, jittered. Default: 2, with --anywhere 0.5.",
)
@click.option(
    "--anywhere",
    is_flag=True,
    help="Strike in the middle of writes and transactions, too: Backstay then says with 40001 and "
    "08007 what became of them, and only other errors count as failures.",
)
def command(once: bool, seconds: float | None, seed: int, cut_every: float, anywhere: bool) -> None:
    """Break links under two applications, one of them behind Backstay, and count errors.

    Starts a PostgreSQL server, the proxy in front of it, and the same small workload twice: through
    the proxy and beside it. Exits with 1 if an error, a wrong answer, or a lost or doubled write
    was seen on the proxy's side. Runs until Ctrl-C unless told otherwise.
    """
    import asyncio

    import uvloop

    from proxy.demo.child import ServerError
    from proxy.demo.play import Options, play
    from proxy.demo.watch import Terminal

    if once and seconds is None:
        seconds = ONCE_S
    options = Options(
        seconds=seconds,
        seed=seed,
        cut_every_s=cut_every or (0.5 if anywhere else 2.0),
        anywhere=anywhere,
        usual_ports=seconds is None,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(play(options, Terminal(sys.stdout)))
    except ModuleNotFoundError as error:
        click.echo(f"{error}; the demo needs more: pip install 'backstay[demo]'", err=True)
        code = 1
    except ServerError as error:
        click.echo(error, err=True)
        code = 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = 130
    sys.exit(code)
