"""What `train.py` is made of: typed options, backbone weights and the Trainer that streams instances to the metric."""
