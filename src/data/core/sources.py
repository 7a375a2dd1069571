"""Files of datasets of text, series and tables: where they come from, their checksums, where they lie in the root."""

from __future__ import annotations

from src.data.core.download import RemoteFile

_GITHUB = "https://raw.githubusercontent.com"


def _files(repository: str, sums: dict[str, str]) -> list[RemoteFile]:
    """Files of a folder on GitHub by name and MD5."""
    return [RemoteFile(name, md5, (f"{_GITHUB}/{repository}/{name}",)) for name, md5 in sums.items()]


# {dataset: (folder below data.root, files)}
FILES: dict[str, tuple[str, list[RemoteFile]]] = {
    "tiny_shakespeare": (
        "text/tinyshakespeare",
        _files(
            "karpathy/char-rnn/master/data/tinyshakespeare",
            {
                "input.txt": "6fb458f1232090904fb40fe944165e91",
            },
        ),
    ),
    "sst2": (
        "text/SST2",
        _files(
            "clairett/pytorch-sentiment-classification/master/data/SST2",
            {
                "train.tsv": "c6150a821d5effe356ec872c2b95855c",
                "dev.tsv": "3f2a9a844576f2b5a7aeeac2ccbab1c7",
                "test.tsv": "f8f49ee1b37ec68b0e8977fbe33761e2",
            },
        ),
    ),
    "names": (
        "text/names/names",
        _files(
            "spro/practical-pytorch/master/data/names",
            {
                "Arabic.txt": "82fae9e94c57f0ce3971ff005db0429e",
                "Chinese.txt": "7dc684c0c97218fccbbe40b4ae5a1feb",
                "Czech.txt": "88035e92cbcd534cf6888c761c5c63af",
                "Dutch.txt": "6ab7bbaf044b499721053f90e0773c5e",
                "English.txt": "950fc1c5c1406e12f1d3c67bbb33ed66",
                "French.txt": "20ca80761015630dbb80c0f1d43cb659",
                "German.txt": "d10473b75cbb39f75de4ba71dccd852a",
                "Greek.txt": "2edefe72c04ef0dafcc08080a06e71fc",
                "Irish.txt": "e7eb4e53253058c0744bbb76cb3110f1",
                "Italian.txt": "80327fae66e0ac14495bc0f62fc0c63f",
                "Japanese.txt": "f5b11bdb2e0435c0a22c1a731aa287d8",
                "Korean.txt": "a9b83a6c85dd59ed024a09c61de0c0e9",
                "Polish.txt": "71aca5ee180890e83daeae1b01429dc0",
                "Portuguese.txt": "9e678db31d44422908885fd3ddea89d6",
                "Russian.txt": "abc12f2851bf747c0676ec50aceed9de",
                "Scottish.txt": "7cb6daa864d1beac09420ea666c10f3d",
                "Spanish.txt": "61f0b4e4deb4acaad0086996124e9b32",
                "Vietnamese.txt": "1c081f30420eb147fb747a90e3d2a7af",
            },
        ),
    ),
    "multi30k": (
        "text/multi30k/task1/raw",
        _files(
            "multi30k/dataset/master/data/task1/raw",
            {
                "train.en.gz": "0065d13af80720a55ca8153d126e6627",
                "train.de.gz": "81ff90b99829c0cd4b1b587d394afd39",
                "val.en.gz": "2b69aa9253948ac9f67e94917272dd40",
                "val.de.gz": "6e0e229eb049e3fc99a1ef02fb2d5f91",
                "test_2016_flickr.en.gz": "ff2c0fcb4893a13bd73414306bc250ae",
                "test_2016_flickr.de.gz": "efd67d314d98489b716b145475101932",
            },
        ),
    ),
    "xquad": (
        "text/xquad",
        _files(
            "google-deepmind/xquad/master",
            {
                "xquad.en.json": "4d2e89c8b72688ab8648d3e581809091",
            },
        ),
    ),
    "ett": (
        "timeseries/ETT-small",
        _files(
            "zhouhaoyi/ETDataset/main/ETT-small",
            {
                "ETTh1.csv": "8381763947c85f4be6ac456c508460d6",
            },
        ),
    ),
    "airline": (
        "timeseries",
        _files(
            "jbrownlee/Datasets/master",
            {
                "airline-passengers.csv": "558a08bfda3955c8506436677352f7b8",
            },
        ),
    ),
    "sp500": (
        "timeseries",
        _files(
            "vega/vega-datasets/main/data",
            {
                "sp500-2000.csv": "52f72f4a35f30e46053a9f52634a8d62",
            },
        ),
    ),
    "titanic": (
        "tabular",
        _files(
            "datasciencedojo/datasets/master",
            {
                "titanic.csv": "61fdd54abdbf6a85b778e937122e1194",
            },
        ),
    ),
    "german_credit": (
        "credit",
        _files(
            "jbrownlee/Datasets/master",
            {
                "german.csv": "8e2c6d456b3cda1f273bfbbbd73ece6c",
            },
        ),
    ),
    # packed anew now and then: what reads it checks the files inside
    "movielens": (
        "movielens",
        [
            RemoteFile(
                "ml-latest-small.zip", "", ("https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",)
            )
        ],
    ),
}
