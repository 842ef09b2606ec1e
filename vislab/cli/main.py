"""The command `vislab`: figures and their records, what attention will cost, and which models there are."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ..spread.errors import sentence
from .arguments import Parser, UsageError, model_arguments, report
from .ask import ASK_EPILOG, ask_arguments, run_ask
from .augment import AUGMENT_EPILOG, augment_arguments, run_augment
from .compare import COMPARE_EPILOG, compare_arguments, run_compare
from .detect import DETECT_EPILOG, detect_arguments, run_detect
from .evaluate import EVALUATE_EPILOG, evaluate_arguments, run_evaluate
from .figure import FIGURE_EPILOG, figure_arguments, run_figure
from .models import run_models
from .page import PAGE_EPILOG, page_arguments, run_page
from .record import REPRODUCE_EPILOG, SHOW_EPILOG, reproduce_arguments, run_reproduce, run_show, show_arguments
from .segment import SEGMENT_EPILOG, run_segment, segment_arguments
from .tokens import TOKENS_EPILOG, run_tokens
from .wording import in_options

# The exit status of a program that was stopped by a signal: 128 + its number.
INTERRUPTED, PIPE_CLOSED = 130, 141
DESCRIPTION = "See where a Vision Transformer looks, exactly, on the source image."
EPILOG = """\
examples:
  vislab figure photo.jpg --out figure.pdf
  vislab figure photo.jpg --method cls --layer 11 --head 2 --out head.png
  vislab figure 'photos/*.jpg' --out 'figures/{name}.svg'
  vislab evaluate photos/ --methods rollout,cls,relevance --csv table.csv
  vislab detect photo.jpg --out boxes.png
  vislab segment photo.jpg --method kmeans --out masks.png
  vislab augment photos/ --out more/
  vislab ask photo.jpg "What is on the hill?" --model HuggingFaceTB/SmolVLM-256M-Instruct --out words.pdf
  vislab compare photo.jpg --need class,boxes
  vislab show figure.pdf
  vislab reproduce figure.pdf --out again.pdf
  vislab tokens photo.jpg --patch-size 16 --image-size 640
  vislab models
  vislab page --out class.html

exit status:
  0    all was done
  1    something failed: a photo, a model or a setting that does not fit them; of several photos the others are done
  2    the command line is wrong
  130  interrupted with Ctrl-C; no half-written file is left
  141  whoever read the output, such as head, closed it
Results go to standard output, messages to standard error. --debug, or VISLAB_DEBUG=1, adds the traceback to a message.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with arguments, by default those of the process -> its exit status, as --help lists them."""
    arguments = sys.argv[1:] if argv is None else argv
    options: list[str] = []
    debug = "--debug" in arguments or os.environ.get("VISLAB_DEBUG", "0") not in ("", "0")
    for stream in (sys.stdout, sys.stderr):  # a name or an arrow that a terminal cannot show must not end hours of work
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        parser = _parser()
        args = parser.parse_args(arguments)
        args.debug, args.options = debug, options
        options += _options(parser, args.command)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except BrokenPipeError:
        # What is still held back would be written at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        report("interrupted", debug)
        return INTERRUPTED
    except UsageError as error:
        report(in_options(str(error), options), debug)
        return 2
    except Exception as error:
        report(in_options(sentence(error), options), debug)
        return 1


def _options(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """All that a command takes, such as "--out"."""
    [commands] = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return [option for option in commands.choices[command]._option_string_actions if option.startswith("--")]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="vislab", description=DESCRIPTION, epilog=EPILOG)
    version = import_module("vislab").__version__
    parser.add_argument("--version", action="version", version=f"vislab {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    asked = model_arguments()

    text = "draw the heatmap of each photo into a file"
    figure = commands.add_parser(
        "figure", parents=[asked, common], help=text, description=f"{text.capitalize()}.", epilog=FIGURE_EPILOG
    )
    figure_arguments(figure)
    figure.set_defaults(run=run_figure)

    text = "measure which methods' maps are faithful to the model"
    evaluate = commands.add_parser(
        "evaluate", parents=[asked, common], help=text, description=f"{text.capitalize()}.", epilog=EVALUATE_EPILOG
    )
    evaluate_arguments(evaluate)
    evaluate.set_defaults(run=run_evaluate)

    text = "find objects in a photo, as boxes"
    detect = commands.add_parser(
        "detect", parents=[common], help=text, description=f"{text.capitalize()}.", epilog=DETECT_EPILOG
    )
    detect_arguments(detect)
    detect.set_defaults(run=run_detect)

    text = "find regions of a photo, as masks"
    segment = commands.add_parser(
        "segment", parents=[common], help=text, description=f"{text.capitalize()}.", epilog=SEGMENT_EPILOG
    )
    segment_arguments(segment)
    segment.set_defaults(run=run_segment)

    text = "cut photos at random for training, sparing what a model looks at"
    augment = commands.add_parser(
        "augment", parents=[common], help=text, description=f"{text.capitalize()}.", epilog=AUGMENT_EPILOG
    )
    augment_arguments(augment)
    augment.set_defaults(run=run_augment)

    text = "ask a vision-language model about a photo, and see where each word of its answer looks"
    ask = commands.add_parser(
        "ask", parents=[common], help=text, description=f"{text.capitalize()}.", epilog=ASK_EPILOG
    )
    ask_arguments(ask)
    ask.set_defaults(run=run_ask)

    text = "run several kinds of models on photos, and say which to take"
    compare = commands.add_parser(
        "compare", parents=[common], help=text, description=f"{text.capitalize()}.", epilog=COMPARE_EPILOG
    )
    compare_arguments(compare)
    compare.set_defaults(run=run_compare)

    text = "tell in words how a figure was made, from the record inside it"
    show = commands.add_parser(
        "show", parents=[common], help=text, description=f"{text.capitalize()}.", epilog=SHOW_EPILOG
    )
    show_arguments(show)
    show.set_defaults(run=run_show)

    text = "make a figure again from the record inside it, and say what differs"
    reproduce = commands.add_parser(
        "reproduce", parents=[common], help=text, description=f"{text.capitalize()}.", epilog=REPRODUCE_EPILOG
    )
    reproduce_arguments(reproduce)
    reproduce.set_defaults(run=run_reproduce)

    text = "tell how many tokens a photo becomes and what attention costs, before anything runs"
    tokens = commands.add_parser(
        "tokens", parents=[asked, common], help=text, description=f"{text.capitalize()}.", epilog=TOKENS_EPILOG
    )
    tokens.add_argument("photo", metavar="PHOTO", help="image file or http(s) address")
    tokens.add_argument("--json", action="store_true", help="for programs: bytes, pixels and operations as JSON")
    tokens.set_defaults(run=run_tokens)

    text = "write a model into one HTML page, for a class"
    page = commands.add_parser(
        "page",
        parents=[common],
        help=text,
        description="Write a model into one HTML page, for a class.",
        epilog=PAGE_EPILOG,
    )
    page_arguments(page)
    page.set_defaults(run=run_page)

    text = "list the models that come with vislab, and names to begin with"
    models = commands.add_parser("models", parents=[common], help=text, description=f"{text.capitalize()}.")
    models.set_defaults(run=run_models)
    return parser
