"""What is read out of logs and waves; knows ports and models, never the inside of the RTL."""
