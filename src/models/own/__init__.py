"""Models from outside this project: a torch module or a LightningModule as it is, made a `Model` of by an adapter."""
