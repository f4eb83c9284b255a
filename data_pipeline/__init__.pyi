from .corpus.cleaning import CleaningConfig
from .corpus.config import PrepareConfig
from .corpus.prepare import prepare_corpus
from .corpus.sources import CorpusConfig, Source, iter_documents
from .corpus.verify import verify_corpus
from .credentials import (
    CREDENTIALS_VARIABLE,
    fields_with_tokens,
    hide_credentials,
    remember_environment,
    take_credentials,
    where_to_keep,
    with_credentials,
    without_credentials,
)
from .errors import DataError, UnfinishedError
from .filesystem import (
    FULL,
    LOCK_FILE,
    file_sha256,
    is_url,
    new_file,
    new_folder,
    os_problem,
    place_problem,
    write_bytes,
    write_json,
    write_text,
)
from .folder import MANIFEST_FILE, TOKENIZER_FOLDER, folder_problem
from .hub import ModelFolder, find_model
from .lock import OutputLock
from .names import copy_files, files_inside, name_problem, path_inside
from .pictures import as_label, save_picture
from .problems import Problem, UserError, number_problems
from .records import (
    as_json,
    excess_of_yaml,
    parse_record,
    read_json,
    read_record,
    read_yaml,
)
from .shards import Manifest, Shard, Split
from .stream.blocks import BlockReader
from .stream.config import MaskingConfig, RemoteConfig, StreamConfig
from .stream.documents import PackedBatch
from .stream.masking import IGNORED_LABEL, MaskedBatch, mask_blocks
from .stream.order import Order, default_lanes
from .stream.stream import TokenStream, validation_batches, world_problems
from .stream.summary import summarize
from .tokenizer import (
    CONTINUATION_MARK,
    SPACE_MARK,
    Vocabulary,
    drop_local_fields,
    fingerprint,
    fingerprint_of_folder,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
    vocabulary_of,
)
from .wording import duration

__all__ = [
    "CONTINUATION_MARK",
    "CREDENTIALS_VARIABLE",
    "FULL",
    "IGNORED_LABEL",
    "LOCK_FILE",
    "MANIFEST_FILE",
    "SPACE_MARK",
    "TOKENIZER_FOLDER",
    "BlockReader",
    "CleaningConfig",
    "CorpusConfig",
    "DataError",
    "Manifest",
    "MaskedBatch",
    "MaskingConfig",
    "ModelFolder",
    "Order",
    "OutputLock",
    "PackedBatch",
    "PrepareConfig",
    "Problem",
    "RemoteConfig",
    "Shard",
    "Source",
    "Split",
    "StreamConfig",
    "TokenStream",
    "UnfinishedError",
    "UserError",
    "Vocabulary",
    "as_json",
    "as_label",
    "copy_files",
    "default_lanes",
    "drop_local_fields",
    "duration",
    "excess_of_yaml",
    "fields_with_tokens",
    "file_sha256",
    "files_inside",
    "find_model",
    "fingerprint",
    "fingerprint_of_folder",
    "folder_problem",
    "hide_credentials",
    "is_url",
    "iter_documents",
    "load_tokenizer",
    "mask_blocks",
    "name_problem",
    "new_file",
    "new_folder",
    "number_problems",
    "os_problem",
    "parse_record",
    "path_inside",
    "place_problem",
    "prepare_corpus",
    "read_json",
    "read_record",
    "read_yaml",
    "remember_environment",
    "save_picture",
    "save_tokenizer",
    "summarize",
    "take_credentials",
    "train_tokenizer",
    "validation_batches",
    "verify_corpus",
    "vocabulary_of",
    "where_to_keep",
    "with_credentials",
    "without_credentials",
    "world_problems",
    "write_bytes",
    "write_json",
    "write_text",
]
