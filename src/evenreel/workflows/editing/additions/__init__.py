"""What settings put on top of a model: adapters, ControlNets, motion modules, LoRAs and embeddings."""
